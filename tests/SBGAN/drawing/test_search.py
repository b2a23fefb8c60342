"""Searching latents: what it counts and pays for by other means, and that it finds what is known to be there."""

import pytest
import torch
import torch.nn.functional as F

from datasets.errors import UserError
from SBGAN import load
from SBGAN.drawing import search
from SBGAN.drawing.search import parse_shares, wished_shares, with_the_rest
from SBGAN.model import class_offsets, draw_layouts, layouts_of
from SBGAN.networks import LayoutGenerator


@pytest.fixture(scope="module")
def generator():
    """Random weights, but heads that decide: layouts of several classes in large regions."""
    torch.manual_seed(3)
    generator = LayoutGenerator(5, 2, 16, latent_dim=16, fmap_max=16)
    with torch.no_grad():
        generator.heads[-1].weight.mul_(3)
    return generator


@pytest.fixture(scope="module")
def model(untrained):
    torch.manual_seed(1)
    return load(untrained.joined(name="finetune_21.pt"), device="cpu")


def scores_of(generator):
    return search.Scores(generator, class_offsets(generator))


def left_half(height, width):
    return torch.arange(width).expand(1, height, width) < width // 2


@pytest.mark.parametrize("size", [(8, 16), (12, 24), (16, 32)])
def test_counts_give_the_cross_entropy_of_the_enlarged_layout(size):
    """PyTorch's own, of log-probabilities enlarged to the sketch, over its fixed pixels."""
    random = torch.Generator().manual_seed(0)
    log_probabilities = torch.randn(3, 5, 8, 16, generator=random).log_softmax(1)
    layouts = torch.randint(5, (3, 1, *size), generator=random, dtype=torch.uint8)
    fixed = torch.rand(3, 1, *size, generator=random) < 0.3
    counts = search.fixed_counts(layouts, fixed, 5, 8, 16)
    assert torch.equal(counts.sum((1, 2, 3)), fixed.sum((1, 2, 3)).float())
    enlarged = F.interpolate(log_probabilities, size, mode="nearest")
    wanted = F.nll_loss(enlarged, layouts[:, 0].long().masked_fill(~fixed[:, 0], -100), reduction="none")
    wanted = wanted.sum((1, 2)) / fixed.sum((1, 2, 3))
    assert torch.allclose(search.cross_entropy(log_probabilities, counts), wanted, atol=1e-6)


def test_misplaced_counts_pixels_of_the_layout_that_is_drawn():
    log_probabilities = torch.full((2, 3, 2, 4), -5.0)
    log_probabilities[0, 0] = 0  # all of class 0
    log_probabilities[1, 1, 0], log_probabilities[1, 2, 1] = 0, 0  # halves of classes 1 and 2
    wished = torch.tensor([[0.75, torch.nan, 0.25], [torch.nan, 0.5, torch.nan]])
    scores = log_probabilities.requires_grad_()
    cost = search.misplaced(scores, wished)
    assert torch.allclose(cost, torch.tensor([0.5, 0.0]))
    cost.sum().backward()
    assert (scores.grad[0, 0] > 0).all() and (scores.grad[0, 2] < 0).all()  # down with class 0, up with class 2


def test_offsets_of_zero_change_nothing(generator):
    z = torch.randn(2, 16)
    for blocks in range(4):
        drawn = search.Scores(generator)(z, search.unmoved_features(generator, 2, blocks))
        assert torch.allclose(drawn, generator(z), atol=1e-6)
    scores = scores_of(generator)
    assert torch.equal(search.argmax(scores(z)), layouts_of(generator, z))


def test_the_start_is_the_cheapest_of_its_group(generator):
    targets = torch.zeros(3, 5)
    targets[:, 1] = 1
    found = search.search(scores_of(generator), search.misplaced, targets, range(2, 5), starts=10, steps=0)
    layouts = draw_layouts(generator, range(20, 50))
    by_hand = (F.one_hot(layouts[:, 0].long(), 5).float().mean((1, 2)) - targets[0]).abs().sum(1).view(3, 10)
    assert torch.allclose(found.cost, by_hand.min(1).values, atol=1e-6)
    chosen = layouts.view(3, 10, 1, 16, 32)[range(3), by_hand.argmin(1)]
    assert (found.layouts == chosen).float().mean() > 0.999


def test_layouts_that_it_drew_come_back(generator):
    drawn = draw_layouts(generator, range(4000, 4003))
    fixed = torch.ones_like(drawn, dtype=torch.bool)
    back = search.agreement(search.matching(scores_of(generator), drawn, fixed, range(3), 40), drawn, fixed)
    nearest = (draw_layouts(generator, range(300))[:, 0] == drawn).float().mean((2, 3)).max(1).values
    assert (back > 0.95).all() and (back > nearest).all(), (back, nearest)


def test_shares_are_met_better_than_by_choosing(generator):
    wished = wished_shares({"b": 0.2, "d": 0.2}, "abcde")
    layouts = search.with_shares(scores_of(generator), wished, range(3), 40)
    shares = F.one_hot(layouts[:, 0].long(), 5).float().mean((1, 2))
    starts = F.one_hot(draw_layouts(generator, range(96))[:, 0].long(), 5).float().mean((1, 2))  # 32 for each

    def missed(shares):
        return (shares[:, 1] - 0.2).abs() + (shares[:, 3] - 0.2).abs()

    chosen = missed(starts).view(3, 32).min(1).values
    assert (missed(shares) < chosen).all() and missed(shares).mean() < chosen.mean() / 2, (missed(shares), chosen)


def test_shares_in_words():
    names = ["car, parked", "sky", "road"]
    wished = parse_shares("car, parked = .1,road=5e-1", names)
    assert wished == {"car, parked": 0.1, "road": 0.5}
    assert wished_shares(wished, names).tolist()[::2] == pytest.approx([0.1, 0.5])
    for text, words in {
        "": "--shares is ''",
        "moon=0.1": "--shares is moon, but must be a class: car, parked; sky; road",
        "sky>0.1": "--shares is sky>0.1, but must be CLASS=SHARE",
        "sky=1.5": "--shares is sky=1.5",
        "sky=0.6,road=0.6": "--shares is 1.2 in sum, but must be at most 1",
        "sky=0.6,sky=0.1": "sky occurs twice",
        "sky=0.6,road=0.1,car, parked=0.1": "--shares is 0.8 in sum, but must be 1 where every class has one",
    }.items():
        with pytest.raises(UserError) as error:
            parse_shares(text, names)
        assert words in str(error.value), error.value


def test_what_cannot_be_wished(model, untrained):
    layout, fixed = torch.zeros(1, 32, 64, dtype=torch.uint8), left_half(32, 64)
    stage_2, name = load(untrained.spade(name="spade_21.pt"), device="cpu"), model.label_space.names[0]
    stage_1 = load(untrained.layout(), device="cpu")
    for call, words in (
        (lambda: model.complete(layout[:, :20], fixed[:, :20]), "20x64 pixels, wanted 32x64 or 16x32"),
        (lambda: model.complete(layout, fixed[..., :8]), "the mask has 32x8 pixels, wanted 32x64"),
        (lambda: model.complete(layout + 200, fixed), "id 200"),
        (lambda: model.complete(layout, fixed & False), "fixes none of the 2048 pixels"),
        (lambda: model.complete(layout, fixed | True), "fixes all of the 2048 pixels"),
        (lambda: stage_2.complete(layout, fixed), "no layout generator"),
        (lambda: stage_2.shares({name: 0.5}), "no layout generator"),
        (lambda: next(stage_2.walk([0, 1])), "no layout generator"),
        (lambda: next(stage_1.walk([0, 1])), "draws layouts alone"),
        (lambda: stage_1.edit(layout[:, :16, :32], (0, 0, 4, 4), name), "draws layouts alone"),
        (lambda: model.shares({"unicorn": 0.5}), "--shares is unicorn"),
        (lambda: model.edit(layout, (0, 0, 4, 4), "unicorn"), "the class is 'unicorn'"),
        (lambda: model.edit(layout, (0, 8, 4, 8), name), "the box is (0, 8, 4, 8)"),
        (lambda: model.edit(layout, fixed & False, name), "32x64 pixels, 0 of them set"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert words in str(error.value), error.value


def test_wishes_leave_the_rest_as_it_was():
    nan = float("nan")
    wished, drawn = torch.tensor([[0.4, nan, nan], [nan, nan, nan]]), torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.3, 0.5]])
    assert torch.allclose(with_the_rest(wished, drawn), torch.tensor([[0.4, 0.12, 0.48], [0.2, 0.3, 0.5]]))
