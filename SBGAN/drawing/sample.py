"""Layouts from a trained layout generator, on the CPU as uint8."""

import torch

from SBGAN.discretize import argmax
from SPADE.engine.evaluation import evaluating
from SPADE.sampling import latents


def generate_layouts(generator, seeds, device, resolution=None, alpha: float = 1.0):
    """One arg-max layout for each seed, uint8 [N,1,h,w]. Each depends on its seed alone."""
    return layouts_of(generator, latents(seeds, generator.latent_dim, device), resolution, alpha)


def layouts_of(generator, z, resolution=None, alpha: float = 1.0):
    """Latents [N,latent_dim] -> uint8 [N,1,h,w], one by one: in another batch a convolution rounds differently, and an
    argmax would jump."""
    with evaluating(generator):
        return torch.cat([argmax(generator(one, resolution, alpha)).cpu() for one in z.split(1)])
