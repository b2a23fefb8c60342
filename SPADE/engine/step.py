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
