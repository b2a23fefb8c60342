"""Pixels to numbers and back, sheets; samples that do not depend on one another, to the bit."""

import numpy as np
import pytest
import torch
from PIL import Image

from SBGAN.model import draw_layouts
from SBGAN.networks import LayoutGenerator
from SPADE.engine.images import (
    ROWS,
    colour_layouts,
    from_uint8,
    in_batches,
    render,
    save_png,
    sheet,
    slerp,
    square_sheet,
    to_uint8,
)
from SPADE.modulation import initialise
from SPADE.networks import SPADEGenerator


def test_every_byte_survives_the_way_to_the_networks_and_back():
    image = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    assert torch.equal(to_uint8(from_uint8(image)), image)


def test_rounding_is_to_nearest_and_beyond_the_range_is_clipped():
    values = torch.tensor([-1.0, 1.0, 0.0, -7.0, 7.0, -1 + 0.6 / 127.5]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_uint8(values)[0, 0, 0].tolist() == [0, 255, 128, 0, 255, 1]


def test_layouts_take_the_colours_of_their_classes():
    colours = torch.tensor([[1, 2, 3], [40, 50, 60]], dtype=torch.uint8)
    labels = torch.tensor([[[[0, 1], [1, 0]]]], dtype=torch.uint8)
    assert colour_layouts(labels, colours)[0, :, 0].T.tolist() == [[1, 2, 3], [40, 50, 60]]


def test_sheets_put_images_where_they_belong(tmp_path):
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 4, 8) * 10
    picture = sheet([images[:2], images[2:]], gap=1)
    assert picture.shape == (3, 2 * 5 + 1, 3 * 9 + 1)
    assert [int(picture[0, 2, x]) for x in (2, 11, 20)] == [0, 10, 255]  # the shorter row is filled with white
    assert [int(picture[0, 7, x]) for x in (2, 11, 20)] == [20, 30, 40]
    save_png(picture, tmp_path / "a folder" / "sheet.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a folder" / "sheet.png")), picture.permute(1, 2, 0))
    assert square_sheet(images).shape[0] == 3


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


def test_slerp():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    assert torch.allclose(slerp(a, b, 0.5), torch.tensor([4.5, 4.5]).sqrt())
    assert torch.allclose(slerp(a, b, 1 / 3), 3 * torch.tensor([3**0.5 / 2, 0.5]), atol=1e-6)
    assert torch.equal(slerp(a, a, 0.3), a)
