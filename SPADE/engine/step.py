"""One optimiser step, the same in every loop."""

import contextlib

from SPADE.engine.distributed import average_gradients


@contextlib.contextmanager
def frozen(*networks):
    """Inside, no gradients are computed for these networks' parameters; they still pass through."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def descend(terms: dict, *optimizers):
    """Backward of the sum of the weighted loss terms, then one step of each optimiser. Returns the terms, detached."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    sum(terms.values()).backward()
    average_gradients([p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]])
    for optimizer in optimizers:
        optimizer.step()
    return {name: value.detach() for name, value in terms.items()}


def set_learning_rate(optimizer, rate: float):
    for group in optimizer.param_groups:
        group["lr"] = rate


def linear_decay(images_seen: int, epoch_images: int, constant_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for constant_epochs, then linear to 0 in decay_epochs."""
    beyond = images_seen / epoch_images - constant_epochs
    return 1.0 if beyond <= 0 else max(0.0, 1 - beyond / max(decay_epochs, 1))
