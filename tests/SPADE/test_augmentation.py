"""Differentiable augmentation against loops, against what its formulas give by hand, and against its own adjoint."""

import pytest
import torch

from datasets.errors import UserError
from SPADE import augmentation
from SPADE.augmentation import KINDS, augment, augmented, parse_kinds

H, W, CLASSES = 8, 16, 3


def of(draws, *kinds):
    """[n,7] as `augment` takes it."""
    columns = {"color": draws[:, :3], "translation": draws[:, 3:5], "cutout": draws[:, 5:]}
    return {kind: columns[kind] for kind in kinds}


@pytest.fixture
def pairs():
    """One-hot labels and images [6,C+3,H,W], and draws [6,7]."""
    torch.manual_seed(0)
    labels = torch.eye(CLASSES, dtype=torch.float64)[torch.randint(CLASSES, (6, H, W))].permute(0, 3, 1, 2)
    image = torch.rand(6, 3, H, W, dtype=torch.float64) * 2 - 1
    return torch.cat([labels, image], 1), torch.rand(6, 7, dtype=torch.float64)


def test_colours_by_hand(pairs):
    x, draws = pairs
    found = augment(x, of(draws, "color"), 3)
    for pair, (brightness, saturation, contrast), after in zip(x, draws[:, :3].tolist(), found, strict=True):
        image = pair[CLASSES:] + brightness - 0.5
        grey = image.sum(0) / 3
        image = grey + 2 * saturation * (image - grey)
        image = image.mean() + (contrast + 0.5) * (image - image.mean())
        torch.testing.assert_close(after[CLASSES:], image)
        assert torch.equal(after[:CLASSES], pair[:CLASSES])


def test_translation_pixel_by_pixel(pairs):
    x, draws = pairs
    found, seen = augment(x, of(draws, "translation"), 3), set()
    for n, (u, v) in enumerate(draws[:, 3:5].tolist()):
        down, right = int(u * 3) - 1, int(v * 5) - 2  # an eighth of 8 and of 16, either way
        seen |= {down, right}
        for i in range(H):
            for j in range(W):
                y, z = i - down, j - right
                inside = 0 <= y < H and 0 <= z < W
                assert torch.equal(found[n, :, i, j], x[n, :, y, z] if inside else torch.zeros(CLASSES + 3).double())
    assert len(seen) > 2


def test_cutout_is_half_of_each_side_with_its_middle_inside():
    ones = torch.ones(500, 1, H, W)
    kept = augment(ones, of(torch.rand(500, 7), "cutout"), 0)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    gone = 1 - kept[:, 0]
    rows, columns = gone.amax(2).sum(1), gone.amax(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), rows * columns)  # a rectangle
    assert (rows.max(), rows.min(), columns.max(), columns.min()) == (H / 2, H / 4, W / 2, W / 4)


def test_image_and_labels_move_alike(pairs):
    x, draws = pairs
    coded = torch.cat([x[:, :CLASSES], x[:, :CLASSES]], 1)  # the image shows its labels
    found = augment(coded, of(draws, "translation", "cutout"), 3)
    assert torch.equal(found[:, :CLASSES], found[:, CLASSES:]) and not torch.equal(found, coded)


def test_real_and_generated_are_changed_alike(pairs):
    x, draws = pairs
    both = augment(torch.cat([x, -x]), of(draws, *KINDS[1:]), 3)
    assert torch.equal(both[:6], -both[6:])


def test_the_gradient_flows_through(pairs):
    x, draws = pairs
    changed, image = lambda image: augment(image, of(draws[:2], *KINDS), 3).square(), x[:2].requires_grad_()
    assert torch.autograd.gradcheck(changed, image)
    assert torch.autograd.gradgradcheck(changed, image)  # penalties differentiate a gradient


def test_the_critic_sees_what_was_changed(pairs):
    x, draws = pairs
    assert augmented(len, augmentation.draw(6, (), "cpu"), 3) is len
    critic = augmented(lambda x, scale, power=1: (x * scale) ** power, of(draws, *KINDS), 3)
    assert torch.equal(critic(x, 2.0, power=3), (2 * augment(x, of(draws, *KINDS), 3)) ** 3)
    drawn = augmentation.draw(6, KINDS, "cpu")
    assert {kind: numbers.shape for kind, numbers in drawn.items()} == {k: of(draws, k)[k].shape for k in KINDS}
    torch.manual_seed(1)
    alone = augmentation.draw(6, ("cutout",), "cpu")
    torch.manual_seed(1)
    assert alone.keys() == {"cutout"} and torch.equal(alone["cutout"], torch.rand(6, 7)[:, 5:])


@pytest.mark.parametrize("text", ["colour", "cutout,cutout", "color translation"])
def test_unknown_kinds_are_refused(text):
    assert parse_kinds("color,cutout") == ("color", "cutout") and parse_kinds("") == ()
    with pytest.raises(UserError, match="--augment is"):
        parse_kinds(text)
