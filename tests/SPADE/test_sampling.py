"""Samples do not depend on one another, to the bit, in batches of one shape."""

import pytest
import torch

from SBGAN.model import draw_layouts
from SBGAN.networks import LayoutGenerator
from SPADE.engine.images import ROWS, in_batches, render
from SPADE.modulation import initialise
from SPADE.networks import SPADEGenerator

SELECTIONS = [[3], [5, 3], [0, 1, 2, 3, 4], [6, 5, 4, 3, 2, 1, 0], [3, 3, 3, 3, 3, 3]]


@pytest.fixture(params=[1, 4], ids=["one by one, as on a CPU", "in fours"])
def size(request, monkeypatch):
    monkeypatch.setitem(ROWS, "cpu", request.param)
    return request.param


@pytest.fixture(scope="module")
def generators():
    torch.manual_seed(0)
    spade = initialise(SPADEGenerator(11, 32, 64, 8, 5, 8, style_dim=8), gain=1.2)
    return LayoutGenerator(11, 2, 16, 8, fmap_max=32), spade


def test_every_batch_has_one_shape_and_nothing_is_lost(size):
    shapes = []

    def draw(x, nothing):
        assert nothing is None
        shapes.append(tuple(x.shape))
        return x * 2

    x = torch.arange(14.0).view(7, 2)
    assert torch.equal(in_batches(draw, x, None), 2 * x)
    assert set(shapes) == {(size, 2)}


def test_a_sample_is_the_same_beside_any_others(size, generators):
    layout_generator, spade = generators
    if size > 1:  # soft layouts, whose modulations are computed for each pixel, as all are on GPUs
        semantics = torch.rand(7, 11, 16, 32, generator=torch.Generator().manual_seed(1)).softmax(1)
    else:
        semantics = draw_layouts(layout_generator, range(7))
    layouts = draw_layouts(layout_generator, range(7))
    images = render(spade, semantics, range(7))
    assert len(layouts.unique(dim=0)) > 1 and 15 < images.float().std() < 110  # that show a difference
    for seeds in SELECTIONS:
        assert torch.equal(draw_layouts(layout_generator, seeds), layouts[seeds]), seeds
        assert torch.equal(render(spade, semantics[seeds], seeds), images[seeds]), seeds
