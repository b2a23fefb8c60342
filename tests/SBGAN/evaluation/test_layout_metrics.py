"""Class proportions against counting by hand, layout distances against closed forms."""

import numpy as np
import pytest
import torch

from SBGAN.discretize import class_proportions, grid_proportions
from SBGAN.evaluation.scenes import fsd, fsd_grid


def random_layouts(n, num_classes, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_classes, (n, 1, height, width), generator=generator, dtype=torch.uint8)


def two_class_layouts(shares, height=16, width=32, rows_from_top=True):
    """One layout per share: class 1 covers that share of the rows, from the top or from the bottom."""
    layouts = torch.zeros(len(shares), 1, height, width, dtype=torch.uint8)
    for layout, share in zip(layouts, shares, strict=True):
        rows = round(share * height)
        layout[:, slice(0, rows) if rows_from_top else slice(height - rows, height)] = 1
    return layouts


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


def test_fsd_of_two_classes_in_closed_form():
    # Proportions (1-s, s): everything happens along (-1,1), so the distance is 2 (dm^2 + (sd1 - sd2)^2) of the shares.
    shares_1, shares_2 = np.arange(0, 9) / 16, np.array([4, 8, 8, 12, 16, 16]) / 16
    expected = 2 * ((shares_1.mean() - shares_2.mean()) ** 2 + (shares_1.std(ddof=1) - shares_2.std(ddof=1)) ** 2)
    layouts_1, layouts_2 = two_class_layouts(shares_1), two_class_layouts(shares_2)
    assert fsd(layouts_1, layouts_2) == pytest.approx(expected, rel=1e-9)
    assert fsd(layouts_2, layouts_1) == pytest.approx(expected, rel=1e-9)


def test_fsd_ignores_unused_classes_and_sizes():
    layouts = random_layouts(10, 3, 8, 16)
    larger = layouts.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert fsd(layouts, larger) < 1e-12
    assert fsd_grid(layouts, larger) < 1e-12


def test_only_the_grid_sees_where_things_are():
    shares = np.arange(2, 14) / 16
    above, below = two_class_layouts(shares), two_class_layouts(shares, rows_from_top=False)
    assert fsd(above, below) < 1e-12
    assert fsd_grid(above, below) > 1


def test_grid_distance_of_constant_layouts():
    # No variance: the distance is |m1 - m2|^2, here 2 classes x 16 cells, each off by 1.
    real, generated = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.ones(4, 1, 8, 8, dtype=torch.uint8)
    assert fsd_grid(real, generated) == pytest.approx(32)
    assert fsd(real, generated) == pytest.approx(2)


def test_class_out_of_range():
    with pytest.raises(ValueError, match="class 4"):
        class_proportions(random_layouts(50, 5, 8, 8), 4)


def test_layouts_smaller_than_the_grid():
    with pytest.raises(ValueError, match="4x4 cells"):
        grid_proportions(random_layouts(2, 2, 2, 8), 2)
