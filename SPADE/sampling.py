"""Images from a trained SPADE generator, batch by batch, on the CPU as uint8."""

import torch

from SPADE.engine.images import to_uint8


def latents(seeds, dim: int, device) -> torch.Tensor:
    """One standard normal vector for each seed, [len(seeds),dim]: sample i never depends on its neighbours."""
    rows = [torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def render(generator, layouts, device, batch_size: int = 16, seed: int = 0):
    """Layouts uint8 [N,1,h,w] -> images uint8 [N,3,H,W]. Call it within `evaluating`.

    A generator with styles gets one standard normal style for each layout, drawn from seed, seed + 1, ...
    """
    images = []
    for start in range(0, len(layouts), batch_size):
        batch = layouts[start : start + batch_size].to(device)
        style = None
        if generator.style_dim:
            style = latents(range(seed + start, seed + start + len(batch)), generator.style_dim, device)
        images.append(to_uint8(generator(batch, style=style)).cpu())
    return torch.cat(images)
