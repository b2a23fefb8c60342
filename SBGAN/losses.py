"""Wasserstein loss with gradient penalty, in float32. Pure functions of tensors."""

import torch

from SPADE.engine.device import widened


def gradient_penalty(discriminator, real, fake, mix=None):
    """E (||grad D(x_hat)||_2 - 1)^2 at x_hat = mix * real + (1 - mix) * fake (Gulrajani et al., NeurIPS 2017, eq. 3).

    discriminator: x [N,...] -> scores [N,1]. mix: [N] in [0,1), drawn from U(0,1) if not given.
    """
    if mix is None:
        mix = torch.rand(len(real), device=real.device)
    mix = mix.view(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(fake, real, mix).detach().requires_grad_()
    with torch.autocast(real.device.type, enabled=False):  # a norm near 1 minus 1 leaves bfloat16 no digits
        scores = discriminator(between)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def wasserstein_discriminator(discriminator, real, fake):
    """E D(fake) - E D(real), without the penalty, in one pass. discriminator: x, number of batches in it -> scores."""
    of_real, of_fake = widened(discriminator(torch.cat([real, fake]), batches=2)).chunk(2)
    return of_fake.mean() - of_real.mean()


def wasserstein_generator(fake_scores):
    """-E D(fake)."""
    return -widened(fake_scores).mean()


def layout_entropy(log_probabilities):
    """Mean entropy of the class at a pixel in nats, [N,C,h,w] -> scalar. 0 for a layout without any doubt."""
    return -(log_probabilities.exp() * log_probabilities).sum(1).mean()
