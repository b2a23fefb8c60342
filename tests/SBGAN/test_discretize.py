"""Layouts from class scores, and class shares: published numbers, counts by hand, optimal assignments, mixtures."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from datasets.labels import one_hot
from SBGAN.discretize import (
    RELEASED_FLOOR,
    ShareMixture,
    argmax,
    class_proportions,
    grid_proportions,
    share_offsets,
    straight_through,
)
from SPADE.modulation import resize
from tests.reference.cases import Case


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


@pytest.mark.parametrize(("prefix", "temperature"), [("T1_", 1.0), ("T0p5_", 0.5)])
def test_straight_through_gumbel(prefix, temperature):
    case = Case("gumbel_straight_through")
    probabilities = case.input("probabilities")
    logs = probabilities.log().requires_grad_()
    noise = case.input("exponential_noise")
    layout = straight_through(logs, temperature, RELEASED_FLOOR, noise)
    (soft,) = layout.grad_fn.saved_tensors
    (layout * case.input("weights")).sum().backward()
    case.check(prefix + "index", argmax(layout))
    case.check(prefix + "onehot", layout)
    case.check(prefix + "soft", soft)
    gradient = logs.grad / probabilities  # d log p = d p / p
    case.check(prefix + "grad", gradient)
    case.check(prefix + "grad_log", gradient * (probabilities + RELEASED_FLOOR))
    assert not [name for name in case.left if name.startswith(prefix)]


def test_argmax_layouts():
    case = Case("argmax_sampler")
    labels = argmax(case.input("probabilities").log())
    large = resize(labels, *(case.config["scaling"] * side for side in labels.shape[-2:]))
    case.check("labels", large)
    case.check("onehot", one_hot(large, case.input("probabilities").shape[1]))
    case.finish()


def random_layouts(n, num_classes, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_classes, (n, 1, height, width), generator=generator, dtype=torch.uint8)


def test_proportions_by_hand():
    layout = torch.tensor([[0, 0, 2, 2], [0, 1, 2, 2]], dtype=torch.uint8)[None, None]
    assert class_proportions(layout, 4).tolist() == [[3 / 8, 1 / 8, 4 / 8, 0]]
    # cells of 1x2 pixels; top left, top right, bottom left, bottom right of class 0, then of class 1, 2 and 3
    expected = [1, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 1, 0, 1, 0, 0, 0, 0]
    assert grid_proportions(layout, 4, cells=2).tolist() == [expected]


@pytest.mark.parametrize(("height", "width"), [(16, 32), (13, 9)])
def test_grid_against_a_loop(height, width):
    labels = random_layouts(70, 5, height, width)  # more than one batch
    proportions = grid_proportions(labels, 5).view(70, 5, 4, 4)
    rows = [[y for y in range(height) if y * 4 // height == i] for i in range(4)]
    columns = [[x for x in range(width) if x * 4 // width == j] for j in range(4)]
    for image in (0, 69):
        for i in range(4):
            for j in range(4):
                cell = labels[image, 0].numpy()[np.ix_(rows[i], columns[j])]
                expected = [(cell == c).mean() for c in range(5)]
                assert proportions[image, :, i, j].tolist() == pytest.approx(expected)
    assert proportions.dtype == torch.float64
    assert torch.allclose(proportions.sum(1), torch.ones(70, 4, 4, dtype=torch.float64))


def test_class_out_of_range():
    with pytest.raises(ValueError, match="class 4"):
        class_proportions(random_layouts(50, 5, 8, 8), 4)


def test_layouts_smaller_than_the_grid():
    with pytest.raises(ValueError, match="4x4 cells"):
        grid_proportions(random_layouts(2, 2, 2, 8), 2)


MEANS = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])


@pytest.fixture(scope="module")
def clusters():
    """Shares of two kinds, one twice as frequent."""
    random = torch.Generator().manual_seed(0)
    shares = MEANS[[0, 1, 1]].repeat(200, 1) + 0.02 * torch.randn(600, 3, generator=random)
    return shares / shares.sum(1, keepdim=True)


def test_the_mixture_finds_its_clusters(clusters):
    mixture = ShareMixture(3, 2)
    mixture.fit(clusters)
    order = mixture.weights.argsort()
    assert torch.allclose(mixture.weights[order], torch.tensor([1 / 3, 2 / 3]), atol=1e-3)
    assert torch.allclose(mixture.means[order], MEANS, atol=0.01)
    for component, members in zip(
        order.tolist(), (clusters[::3], clusters[[i for i in range(600) if i % 3]]), strict=True
    ):
        factor = mixture.factors[component]
        wanted = torch.from_numpy(np.cov(members.T.double().numpy(), bias=True)).float()
        assert torch.allclose(factor @ factor.T, wanted + 1e-5 * torch.eye(3), atol=2e-6)


def test_the_fit_is_likelier_than_one_gaussian_and_than_its_start(clusters):
    def likelihood(mixture):
        normal = MultivariateNormal(mixture.means.double(), scale_tril=mixture.factors.double())
        return MixtureSameFamily(Categorical(mixture.weights.double()), normal).log_prob(clusters.double()).mean()

    one, two = ShareMixture(3, 1), ShareMixture(3, 2)
    one.fit(clusters), two.fit(clusters)
    assert likelihood(two) > likelihood(one) + 0.5


def test_draws_are_shares_as_they_were_fitted(clusters):
    mixture = ShareMixture(3, 2)
    mixture.fit(clusters)
    drawn = mixture(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(1)))
    assert (drawn >= 0).all() and torch.allclose(drawn.sum(1), torch.ones(20_000))
    assert torch.allclose(drawn.mean(0), clusters.mean(0), atol=0.01)
    assert torch.allclose(drawn.T.cov(), clusters.T.cov(), atol=0.002)
