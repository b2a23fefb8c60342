"""Arg-max of which each class has the share of its probabilities, against optimal assignments and by counting."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from SBGAN import model
from SBGAN.discretize import argmax, share_offsets
from SBGAN.networks import LayoutGenerator
from SPADE.engine.images import latents


def shares(classes, num_classes: int):
    return torch.bincount(classes.flatten().long(), minlength=num_classes).double() / classes.numel()


@pytest.fixture
def pixels():
    """log-probabilities [4000,5]; the last class is the likeliest nowhere and has 4 % all the same."""
    torch.manual_seed(0)
    return (3 * torch.randn(4000, 5) + torch.tensor([2.0, 1, 0, 0, -30])).log_softmax(1).exp().mul(0.96).add(
        torch.tensor([0.0, 0, 0, 0, 0.04])
    ).log()  # fmt: skip


def test_each_class_has_the_share_of_its_probabilities(pixels):
    found = (pixels + share_offsets(pixels)).argmax(1)
    assert shares(pixels.argmax(1), 5)[4] == 0
    torch.testing.assert_close(shares(found, 5), pixels.double().exp().mean(0), rtol=0.05, atol=2e-3)


def test_no_assignment_of_these_shares_is_likelier(pixels):
    pixels = pixels[:200]
    found = (pixels + share_offsets(pixels)).argmax(1)
    places = found.sort().values  # one for each pixel of each class
    rows, columns = linear_sum_assignment(pixels[:, places], maximize=True)
    best = pixels[rows, places[columns]].sum()
    torch.testing.assert_close(pixels.gather(1, found[:, None]).sum(), best, rtol=1e-5, atol=1e-4)


def test_sure_layouts_stay_as_they_are():
    torch.manual_seed(1)
    wanted = torch.randint(4, (3, 1, 8, 16), dtype=torch.uint8)
    sure = torch.nn.functional.one_hot(wanted[:, 0].long(), 5).movedim(-1, 1).mul(30.0).log_softmax(1)
    offsets = share_offsets(sure.permute(0, 2, 3, 1).flatten(0, 2))
    assert torch.equal(argmax(sure, offsets), wanted)


def test_offsets_are_kept_until_the_weights_change():
    torch.manual_seed(2)
    generator = LayoutGenerator(5, 2, 8, latent_dim=4, fmap_max=8)
    first = model.class_offsets(generator)
    assert model.class_offsets(generator) is first
    with model.truncated(generator, 0.5):
        assert model.class_offsets(generator) is first
    with torch.no_grad():
        generator.heads[-1].bias[0] += 3
    assert not torch.equal(model.class_offsets(generator), first)


def test_layouts_have_the_generators_shares():
    torch.manual_seed(3)
    generator = LayoutGenerator(5, 2, 16, latent_dim=4, fmap_max=8)
    z = latents(range(64), 4, "cpu")
    with torch.no_grad():
        generator.heads[-1].bias[4] -= 4
        wanted = generator(z).double().exp().mean((0, 2, 3))
    torch.testing.assert_close(shares(model.layouts_of(generator, z), 5), wanted, rtol=0.15, atol=0.01)
