"""Truncation: fewer, more typical layouts."""

import contextlib

import torch

from SPADE.engine.evaluation import evaluating
from SPADE.sampling import latents

SAMPLES = 1024  # of which the mean is taken


@contextlib.contextmanager
def truncated(generator, psi: float):
    """Inside, the first block's features [N,K,4,4*aspect] are drawn to their mean over latents: m + psi * (x - m).

    psi 1 changes nothing, psi 0 gives one layout for every latent. The pixel norm at the entrance takes the length from
    a latent, so shrinking latents themselves would do nothing; this is the place that StyleGAN's trick has here (Karras
    et al. 2019, appendix B).
    """
    if psi == 1:
        yield
        return
    with evaluating(generator):
        device = next(generator.parameters()).device
        batches = latents(range(SAMPLES), generator.latent_dim, device).split(128)
        mean = torch.stack([generator.blocks[0](z).mean(0) for z in batches]).mean(0)  # [K,4,4*aspect]
    hook = generator.blocks[0].register_forward_hook(lambda module, inputs, output: mean + psi * (output - mean))
    try:
        yield
    finally:
        hook.remove()
