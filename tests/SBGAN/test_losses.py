"""Losses of the layout GAN against closed forms and against another way to compute them."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical

from SBGAN.losses import (
    discriminator_losses,
    gradient_penalty,
    logistic_discriminator,
    logistic_generator,
    r1_penalty,
    share_divergence,
    told_losses,
    wasserstein_discriminator,
)
from SBGAN.networks import ProgressiveDiscriminator


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])  # minibatch statistics form groups of 1, 2, 3, 4, 3
def test_real_and_fake_samples_form_no_groups(size):
    torch.manual_seed(size)
    discriminator = ProgressiveDiscriminator(5, 2, 8, fmap_max=8).double()
    real, fake = torch.rand(2, size, 5, 8, 16, dtype=torch.float64)
    found = wasserstein_discriminator(discriminator, real, fake)
    wanted = discriminator(fake).mean() - discriminator(real).mean()
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    both = discriminator(torch.cat([real, fake]))  # as if they were one batch
    assert (size % 4 == 0 or size == 3) == torch.allclose(both[size:].mean() - both[:size].mean(), wanted, rtol=1e-9)


class Quadratic(torch.nn.Module):
    """D(x) = a * sum(x^2) / 2 for each sample: its gradient is a * x."""

    def forward(self, x, batches=1):
        return 3 * x.flatten(1).square().sum(1, keepdim=True) / 2


def test_r1_of_a_critic_whose_gradient_is_known():
    x = torch.randn(4, 5, 2, 3, dtype=torch.float64)
    wanted = (3 * x).flatten(1).square().sum(1).mean() / 2
    torch.testing.assert_close(r1_penalty(Quadratic(), x), wanted)


def test_logistic_losses_are_cross_entropies():
    real, fake = torch.randn(2, 6, 3, 2, 2, dtype=torch.float64)
    scores = torch.cat([Quadratic()(real), Quadratic()(fake)])
    is_real = torch.tensor([1.0] * 6 + [0.0] * 6, dtype=torch.float64)[:, None]
    wanted = 2 * torch.nn.functional.binary_cross_entropy_with_logits(scores, is_real)
    torch.testing.assert_close(logistic_discriminator(Quadratic(), real, fake), wanted)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(scores[6:], torch.ones_like(scores[6:]))
    torch.testing.assert_close(logistic_generator(scores[6:]), wanted)


@pytest.mark.parametrize("loss, term, every", [("r1", "r1", 0), ("r1", "r1", 3), ("wgan_gp", "gradient_penalty", 4)])
def test_a_penalty_at_every_kth_step_weighs_as_much_as_at_each(loss, term, every):
    real, fake, mix = *torch.randn(2, 4, 3, 2, 2, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    steps = range(1, 2 * (every or 16) + 1)
    found = [discriminator_losses(loss, Quadratic(), real, fake, mix, 0.5, step, every) for step in steps]
    penalties = [terms[term] for terms in found if term in terms]
    assert len(penalties) == 2 and term in found[0]
    wanted = r1_penalty(Quadratic(), real) if loss == "r1" else gradient_penalty(Quadratic(), real, fake, mix)
    torch.testing.assert_close(sum(penalties) / len(found), 0.5 * wanted)


def test_the_gradient_penalty_is_at_every_step_unless_told_otherwise():
    real, fake, mix = *torch.randn(2, 4, 3, 2, 2), torch.rand(4)
    for step in (1, 2, 3):
        found = discriminator_losses("wgan_gp", Quadratic(), real, fake, mix, 10.0, step)
        torch.testing.assert_close(found["gradient_penalty"], 10 * gradient_penalty(Quadratic(), real, fake, mix))


def test_divergence_is_pytorchs():
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 5, 3, 6, generator=random).log_softmax(1)
    shares = torch.rand(4, 5, generator=random)
    shares[:, 0] = 0
    shares /= shares.sum(1, keepdim=True)
    mean = scores.exp().mean((2, 3))
    wanted = F.kl_div(mean.log(), shares, reduction="batchmean")
    assert torch.allclose(share_divergence(scores, shares), wanted)
    assert share_divergence(scores, mean) < 1e-6
    terms = told_losses(scores, shares, 3.0, 0.5)
    entropy = Categorical(logits=scores.movedim(1, -1)).entropy().mean()
    assert torch.allclose(terms["shares"], 3 * wanted) and torch.allclose(terms["doubt"], entropy / 2)
