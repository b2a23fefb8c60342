"""The Wasserstein loss in one pass is that of one pass for each batch."""

import pytest
import torch

from SBGAN.losses import wasserstein_discriminator
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
