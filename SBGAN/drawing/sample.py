"""Layouts and scenes from trained generators, on the CPU as uint8. Each sample depends on its seed alone."""

import contextlib

import torch

from SBGAN.discretize import argmax
from SPADE.engine.device import evaluating
from SPADE.engine.images import to_uint8
from SPADE.sampling import in_batches, latents

MEAN_OF = 1024  # latents that `truncated` takes the mean over


def draw_layouts(generator, seeds, resolution=None, alpha: float = 1.0):
    """One arg-max layout for each seed, uint8 [N,1,h,w]."""
    device = next(generator.parameters()).device
    return layouts_of(generator, latents(seeds, generator.latent_dim, device), resolution, alpha)


def layouts_of(generator, z, resolution=None, alpha: float = 1.0):
    """Latents [N,latent_dim] -> arg-max layouts uint8 [N,1,h,w]."""
    with evaluating(generator):
        return in_batches(lambda z: argmax(generator(z, resolution, alpha)).cpu(), z)


def draw_images(generator, seeds, resolution=None, alpha: float = 1.0):
    """The RGB baseline's image for each seed, uint8 [N,3,h,w]."""
    z = latents(seeds, generator.latent_dim, next(generator.parameters()).device)
    with evaluating(generator):
        return in_batches(lambda z: to_uint8(generator(z, resolution, alpha)).cpu(), z)


@contextlib.contextmanager
def truncated(generator, psi: float):
    """Draws the first block's features [N,K,4,4*aspect] to their mean over latents: m + psi * (x - m).

    psi 1 changes nothing, psi 0 gives one layout for every latent. The pixel norm at the entrance takes the length from
    a latent, so shrinking latents themselves would do nothing; this is the place that StyleGAN's trick has here (Karras
    et al. 2019, appendix B).
    """
    if psi == 1:
        yield
        return
    with evaluating(generator):
        device = next(generator.parameters()).device
        batches = latents(range(MEAN_OF), generator.latent_dim, device).split(128)
        mean = torch.stack([generator.blocks[0](z).mean(0) for z in batches]).mean(0)  # [K,4,4*aspect]
    hook = generator.blocks[0].register_forward_hook(lambda module, inputs, output: mean + psi * (output - mean))
    try:
        yield
    finally:
        hook.remove()


def slerp(a, b, share: float):
    """Spherical interpolation of two vectors, share 0 -> a, 1 -> b: latents keep the length that training knows."""
    angle = torch.acos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    if angle < 1e-4:
        return (1 - share) * a + share * b
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def closed_walk(points, frames: int):
    """points [K,D] -> [K*frames,D]: from each point to the next, and from the last back to the first."""
    following = torch.cat([points[1:], points[:1]])
    return torch.stack([slerp(a, b, i / frames) for a, b in zip(points, following, strict=True) for i in range(frames)])
