"""Distances between sets of layouts against closed forms."""

import numpy as np
import pytest
import torch

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
