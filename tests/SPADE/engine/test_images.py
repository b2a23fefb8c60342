import numpy as np
import torch
from PIL import Image

from SPADE.engine.images import colour_layouts, from_uint8, save_png, sheet, square_sheet, to_uint8


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
