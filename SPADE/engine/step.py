"""One step: what is due at it, a pure function of the images seen before it, and how the optimisers make it."""

import contextlib
from dataclasses import dataclass

import torch

from SPADE.engine.distributed import average_gradients, world_size


@dataclass(frozen=True)
class Step:
    """One step, as a stage's schedule plans it."""

    images_seen: int  # before it
    batch_size: int  # over all processes
    number: int  # steps made when this one has been made
    rates: dict[str, float]  # optimiser -> learning rate
    averaged: int  # images that the averages have followed after it, for their half-life; 0: they do not follow yet
    where: str  # the place in the schedule in words, for people
    curves: dict[str, float]  # the same in numbers, for the log
    saved: dict  # the same for checkpoints
    pictures: bool  # are they due after it?
    scores: bool
    checkpoint: int | None  # its number, of epochs or iterations; None: none is due


def in_epochs(images_seen: int, config, epoch_images: int, rates: dict, before: int = 0) -> Step:
    """The step of a training whose rates are constant for niter epochs and fall to 0 in niter_decay further ones.

    rates: optimiser -> (learning rate, does it fall?); before: images that are seen before the first epoch begins.
    """
    trained = images_seen - before  # negative before the first epoch
    then = trained + config.batch_size
    factor = linear_decay(max(trained, 0), epoch_images, config.niter, config.niter_decay)
    rates = {name: rate * factor if falls else rate for name, (rate, falls) in rates.items()}
    number, epoch = (images_seen + config.batch_size) // config.batch_size, max(then, 0) // epoch_images
    last = then >= (config.niter + config.niter_decay) * epoch_images

    def due(epochs):
        """Does one of every so many epochs end with this step, or the training? 0 is never."""
        images = epochs * epoch_images
        return epochs > 0 and then > 0 and (last or then // images > max(trained, 0) // images)

    return Step(
        images_seen=images_seen,
        batch_size=config.batch_size,
        number=number,
        rates=rates,
        averaged=max(then, 0),
        where=f"epoch {epoch}",
        curves={f"learning_rate/{name}": rate for name, rate in rates.items()},
        saved={"epoch": epoch},
        pictures=last or number == 1 or every(config.picture_every, number),
        scores=due(config.evaluate_every),
        checkpoint=epoch if last or due(config.save_every) else None,
    )


def linear_decay(images_seen: int, epoch_images: int, constant_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for constant_epochs, then linear to 0 in decay_epochs."""
    beyond = images_seen / epoch_images - constant_epochs
    return 1.0 if beyond <= 0 else max(0.0, 1 - beyond / max(decay_epochs, 1))


def every(period: int, steps: int) -> bool:
    """Is this one of every `period` steps? A period of 0 is never."""
    return period > 0 and steps % period == 0


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


@contextlib.contextmanager
def unmoved(network):
    """Inside, a network in training mode writes its running statistics and spectral vectors; then they are put back."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)


def adam(parameters, beta2: float, lr: float = 1e-3):
    """All optimisers here. Fused: one launch for all parameters, and it can leave a step out without being told by the
    host (see `Guard`)."""
    return torch.optim.Adam(parameters, lr=lr, betas=(0.0, beta2), fused=True)


def micro_batches(size: int, *values) -> list:
    """A process's batch in parts of at most `size` samples (0: whole): [(share of the batch, the part's values)].

    values: tensors [N,...], dictionaries of these, or None; the first is a tensor.
    """
    n = len(values[0])
    size = min(size or n, n)
    starts = range(0, n, size)
    return [(min(size, n - i) / n, [rows_of(value, slice(i, i + size)) for value in values]) for i in starts]


def rows_of(value, rows: slice):
    if isinstance(value, dict):
        return {name: rows_of(inner, rows) for name, inner in value.items()}
    return None if value is None else value[rows]


def descend(terms_of, batches, *optimizers, guard=None, kind: str = "", autocast=None) -> dict:
    """Backward of the sum of the weighted loss terms, part by part, then one step of each optimiser.

    terms_of: values of a part -> {name: loss, a mean over its samples}; batches: `micro_batches`; guard: leaves out a
    step that is not finite; autocast: context in which the losses are computed.
    Returns the terms as means over the batch of all processes, their names after the kind of descent ("generator/").
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    values = 0
    for i, (share, part) in enumerate(batches):
        if guard and i:
            guard.rewind_estimates()
        with autocast or contextlib.nullcontext():
            terms = terms_of(*part)
        (share * sum(terms.values())).backward()
        values = values + share * torch.stack([value.detach().float() for value in terms.values()])
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    values = average_gradients(gradients, values)
    bad = guard.judge(kind, list(terms), values, gradients) if guard else None
    for optimizer in optimizers:
        optimizer.found_inf = bad  # a fused Adam changes nothing where this is 1
        optimizer.step()
    return {kind + name: value for name, value in zip(terms, values / world_size(), strict=True)}


def set_learning_rate(optimizer, rate: float):
    for group in optimizer.param_groups:
        group["lr"] = rate
