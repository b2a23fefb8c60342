"""One optimiser step, the same in every loop."""

import contextlib

import torch

from SPADE.engine.distributed import average_gradients, world_size


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


def descend(terms: dict, *optimizers, guard=None, kind: str = "") -> dict:
    """Backward of the sum of the weighted loss terms, then one step of each optimiser, if the guard accepts it.

    Returns the terms as means over the processes, their names after the kind of descent ("generator/").
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    sum(terms.values()).backward()
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    values = torch.stack([value.detach().float() for value in terms.values()])
    report = torch.cat([values, values.new_tensor(guard.signals())]) if guard else values
    report = average_gradients(gradients, report)
    if guard is None or guard.accept(kind, list(terms), report, gradients):
        for optimizer in optimizers:
            optimizer.step()
    return {kind + name: value for name, value in zip(terms, report / world_size(), strict=False)}


def set_learning_rate(optimizer, rate: float):
    for group in optimizer.param_groups:
        group["lr"] = rate


def linear_decay(images_seen: int, epoch_images: int, constant_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for constant_epochs, then linear to 0 in decay_epochs."""
    beyond = images_seen / epoch_images - constant_epochs
    return 1.0 if beyond <= 0 else max(0.0, 1 - beyond / max(decay_epochs, 1))


def every(period: int, steps: int) -> bool:
    """Is this one of every `period` steps? A period of 0 is never."""
    return period > 0 and steps % period == 0


def ended(before: int, now: int, epoch_images: int, every: int, last: bool) -> bool:
    """Has a multiple of `every` epochs ended between two numbers of images seen? `every` 0 is never."""
    return every > 0 and (last or now // (every * epoch_images) > before // (every * epoch_images))
