"""Layouts and scenes from trained generators, on the CPU as uint8. Each sample depends on its seed alone."""

import contextlib
import weakref

import torch

from SBGAN.discretize import argmax, share_offsets
from SPADE.engine.device import evaluating
from SPADE.engine.images import to_uint8
from SPADE.sampling import in_batches, latents

MEAN_OF = 1024  # latents that `truncated` takes the mean over
SHARES_OF, SHARES_ROWS = 128, 32  # latents that a class's share is found from, and at most so many rows of each
_offsets = weakref.WeakKeyDictionary()  # generator -> (what they depend on, offsets)


def draw_layouts(generator, seeds, resolution=None, alpha: float = 1.0):
    """One layout for each seed, uint8 [N,1,h,w]: arg-max, of which each class has the share of its probabilities."""
    device = next(generator.parameters()).device
    return layouts_of(generator, latents(seeds, generator.latent_dim, device), resolution, alpha)


def layouts_of(generator, z, resolution=None, alpha: float = 1.0):
    """Latents [N,latent_dim] -> layouts uint8 [N,1,h,w]."""
    offsets = class_offsets(generator, resolution, alpha)
    with evaluating(generator):
        return in_batches(lambda z: argmax(generator(z, resolution, alpha), offsets).cpu(), z)


def class_offsets(generator, resolution=None, alpha: float = 1.0):
    """`share_offsets` of a generator, [C]: from some latents, always the same; kept until its weights change."""
    state = resolution, alpha, [p._version for p in generator.parameters()]
    if _offsets.get(generator, (None,))[0] != state:
        apart = max((resolution or generator.max_resolution) // SHARES_ROWS, 1)  # each so manyth row and column
        with evaluating(generator):
            z = latents(range(SHARES_OF), generator.latent_dim, next(generator.parameters()).device)
            found = in_batches(lambda z: generator(z, resolution, alpha)[:, :, ::apart, ::apart], z)
        _offsets[generator] = state, share_offsets(found.permute(0, 2, 3, 1).flatten(0, 2))
    return _offsets[generator][1]


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
    class_offsets(generator)  # those of all its layouts, found before it is narrowed
    with evaluating(generator):
        device = next(generator.parameters()).device
        batches = latents(range(MEAN_OF), generator.latent_dim, device).split(128)
        mean = torch.stack([generator.blocks[0](z).mean(0) for z in batches]).mean(0)  # [K,4,4*aspect]
    hook = generator.blocks[0].register_forward_hook(lambda module, inputs, output: mean + psi * (output - mean))
    try:
        yield
    finally:
        hook.remove()
