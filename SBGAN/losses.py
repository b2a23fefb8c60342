"""Wasserstein loss with gradient penalty, logistic loss with R1, in float32. Pure functions of tensors."""

import torch
import torch.nn.functional as F

from SPADE.engine.compilation import as_written
from SPADE.engine.device import widened


def gradient_penalty(discriminator, real, fake, mix=None):
    """E (||grad D(x_hat)||_2 - 1)^2 at x_hat = mix * real + (1 - mix) * fake (Gulrajani et al., NeurIPS 2017, eq. 3).

    discriminator: x [N,...] -> scores [N,1]. mix: [N] in [0,1), drawn from U(0,1) if not given.
    """
    if mix is None:
        mix = torch.rand(len(real), device=real.device)
    mix = mix.view(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(fake, real, mix).detach().requires_grad_()
    # Without autocast: norm - 1 needs more digits than bfloat16 has.
    with torch.autocast(real.device.type, enabled=False), as_written():
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


def share_divergence(log_probabilities, shares):
    """KL divergence of the mean soft layout's class shares from those told, [N,C,h,w] and [N,C] -> mean over N."""
    drawn = log_probabilities.exp().mean((2, 3)).clamp_min(1e-8)  # [N,C]
    return (torch.special.xlogy(shares, shares) - shares * drawn.log()).sum(1).mean()


def told_losses(log_probabilities, shares, lambda_shares: float, lambda_entropy: float) -> dict:
    """Losses of a generator that is told shares [N,C], for missing them and for doubt (Le Moing et al., CVPR 2021)."""
    return {
        "shares": lambda_shares * share_divergence(log_probabilities, shares),
        "doubt": lambda_entropy * layout_entropy(log_probabilities),
    }


def logistic_discriminator(discriminator, real, fake):
    """E softplus(-D(real)) + E softplus(D(fake)), in one pass; arguments as of `wasserstein_discriminator`."""
    of_real, of_fake = widened(discriminator(torch.cat([real, fake]), batches=2)).chunk(2)
    return F.softplus(-of_real).mean() + F.softplus(of_fake).mean()


def logistic_generator(fake_scores):
    """E softplus(-D(fake)), which does not saturate (Goodfellow et al., NeurIPS 2014, section 3)."""
    return F.softplus(-widened(fake_scores)).mean()


def r1_penalty(discriminator, real):
    """E ||grad D(real)||_2^2 / 2 (Mescheder et al., ICML 2018, eq. 9). discriminator: x [N,...] -> scores [N,1]."""
    real = real.detach().requires_grad_()
    with torch.autocast(real.device.type, enabled=False), as_written():
        scores = discriminator(real)
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean() / 2


LOSSES = ("wgan_gp", "r1")
R1_EVERY = 16  # steps: it changes slowly, so that every 16th one with 16 times its weight does (Karras et al. 2020)


def penalty_period(loss: str | None, every: int = 0) -> int:
    """Steps from one penalty to the next: `every`, or where that is 0 as many as published."""
    return every or (R1_EVERY if loss == "r1" else 1)


def penalty_is_due(step: int, every: int) -> bool:
    """Is the penalty part of this step? step: its number, from 1 on."""
    return (step - 1) % every == 0


def generator_losses(loss: str, fake_scores) -> dict:
    """loss: one of LOSSES; fake_scores [N,1] -> {term: value}."""
    if loss == "r1":
        return {"logistic": logistic_generator(fake_scores)}
    return {"wgan": wasserstein_generator(fake_scores)}


def discriminator_losses(
    loss: str, discriminator, real, fake, mix, penalty_weight: float, step: int = 1, penalty_every: int = 0
) -> dict:
    """loss: one of LOSSES; real, fake [N,...]; mix [N] as of `gradient_penalty`; step: its number, from 1 on.

    penalty_weight: of the gradient penalty, or of R1 (its gamma), which is left out of all steps but every
    `penalty_every`-th (0: as published) and weighs so many times as much there. -> {term: weighted value}
    """
    every = penalty_period(loss, penalty_every)
    if loss == "r1":
        terms = {"logistic": logistic_discriminator(discriminator, real, fake)}
    else:
        terms = {"wgan": wasserstein_discriminator(discriminator, real, fake)}
    if not penalty_is_due(step, every):
        return terms
    if loss == "r1":
        return terms | {"r1": every * penalty_weight * r1_penalty(discriminator, real)}
    return terms | {"gradient_penalty": every * penalty_weight * gradient_penalty(discriminator, real, fake, mix)}
