"""Images from a trained SPADE generator, on the CPU as uint8."""

import torch

from SPADE.engine.images import to_uint8


def latents(seeds, dim: int, device) -> torch.Tensor:
    """One standard normal vector for each seed, [len(seeds),dim]: sample i never depends on its neighbours."""
    rows = [torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def render(generator, layouts, seeds, device):
    """Layouts uint8 [N,1,h,w] -> images uint8 [N,3,H,W], as one batch. Call it within `evaluating`.

    A generator with styles gets one standard normal style for each layout, drawn from its seed.
    """
    style = latents(seeds, generator.style_dim, device) if generator.style_dim else None
    return to_uint8(generator(layouts.to(device), style=style)).cpu()
