"""Images from a trained SPADE generator, on the CPU as uint8; batches in which no sample depends on another."""

import torch

from SPADE.engine.device import evaluating
from SPADE.engine.images import to_uint8

# Rows of a batch. On the CPU one: what is shared between the layouts of a batch there (SPADE's modulations, computed
# once for all equal neighbourhoods) would make a sample's last bits depend on the others.
ROWS = {"cpu": 1, "cuda": 16}


def latents(seeds, dim: int, device) -> torch.Tensor:
    """One standard normal vector for each seed, [len(seeds),dim]: sample i never depends on its neighbours."""
    rows = [torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def in_batches(draw, *inputs):
    """draw(*rows) of all rows of `inputs`, tensors [N,...] on one device (or None), computed in batches of one shape.

    Every batch has ROWS rows; the last is filled up with copies of its last row, whose results are dropped. Libraries
    choose their kernels, and so the order of their sums, by the shape. In batches of one shape a row's result, to the
    bit, depends neither on which rows are beside it nor on how many there are.

    On the CPU that holds as it stands. On a GPU it holds for kernels that compute each row alike wherever it stands in
    the batch and add in a fixed order: those that PyTorch takes under `--deterministic` with cuDNN's autotuning off;
    elsewhere atomic additions may move the last bit from call to call. Another GPU model or PyTorch may take other
    kernels in any case.
    """
    first = next(value for value in inputs if value is not None)
    size = ROWS.get(first.device.type, ROWS["cuda"])
    drawn = []
    for start in range(0, len(first), size):
        rows = [None if value is None else value[start : start + size] for value in inputs]
        count = min(size, len(first) - start)
        if count < size:
            rows = [None if r is None else torch.cat([r, r[-1:].expand(size - count, *r.shape[1:])]) for r in rows]
        drawn.append(draw(*rows)[:count])
    return torch.cat(drawn)


def render(generator, layouts, seeds=None, style=None):
    """Layouts uint8 [N,1,h,w] -> images uint8 [N,3,H,W] on the CPU. Each depends on its layout and style alone.

    A generator with styles takes style [1 or N,style_dim], or one standard normal style for each layout, drawn from its
    seed.
    """
    device = next(generator.parameters()).device
    if not generator.style_dim:
        style = None
    elif style is None:
        style = latents(seeds, generator.style_dim, device)
    else:
        style = style.expand(len(layouts), -1)
    with evaluating(generator):
        return in_batches(lambda *rows: to_uint8(generator(rows[0], style=rows[1])).cpu(), layouts.to(device), style)
