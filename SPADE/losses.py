"""Losses of SPADE, in float32. Pure functions; discriminator outputs are lists over scales of lists over layers."""

import torch
import torch.nn.functional as F

from SPADE.engine.device import widened


def hinge_discriminator_real(outputs):
    """Mean over scales of E max(0, 1 - D(real)) (Lim & Ye, *Geometric GAN*, 2017)."""
    return torch.stack([F.relu(1 - widened(scale[-1])).mean() for scale in outputs]).mean()


def hinge_discriminator_fake(outputs):
    """Mean over scales of E max(0, 1 + D(fake))."""
    return torch.stack([F.relu(1 + widened(scale[-1])).mean() for scale in outputs]).mean()


def hinge_generator(outputs):
    """Mean over scales of -E D(fake)."""
    return torch.stack([-widened(scale[-1]).mean() for scale in outputs]).mean()


def feature_matching(fake, real):
    """Sum over layers but the last of the L1 distance of activations, mean over scales (Wang et al. 2018, eq. 4)."""
    distances = [
        F.l1_loss(widened(f), widened(r.detach()))
        for fake_scale, real_scale in zip(fake, real, strict=True)
        for f, r in zip(fake_scale[:-1], real_scale[:-1], strict=True)
    ]
    return torch.stack(distances).sum() / len(fake)


def kl_divergence(mean, log_variance):
    """KL(N(mean, e^log_variance) || N(0, I)), summed over the batch and the dimensions, as SPADE weighs it."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
