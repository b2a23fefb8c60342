"""Layouts from a trained layout generator, batch by batch, on the CPU as uint8."""

import torch

from SBGAN.discretize import argmax
from SPADE.sampling import latents


def generate_layouts(generator, num: int, seed: int, device, batch_size: int = 32, resolution=None, alpha: float = 1.0):
    """Arg-max layouts of the latents seed .. seed + num - 1 -> uint8 [num,1,h,w]. Call it within `evaluating`."""
    layouts = []
    for start in range(seed, seed + num, batch_size):
        z = latents(range(start, min(start + batch_size, seed + num)), generator.latent_dim, device)
        layouts.append(argmax(generator(z, resolution, alpha)).cpu())
    return torch.cat(layouts)
