"""Pictures that say how they are shown: upright and opaque, or a sentence, in every format, on both sides of a pair."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from datasets.errors import UserError
from datasets.files import read_image, read_label
from tests.datasets.builders import space_of

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 5, (6, 4), dtype=np.uint8)
SPACE = space_of(5)
READ = {"image": read_image, "label": lambda path: read_label(path, SPACE)}
FORMATS = {"image": (".png", ".jpg", ".webp", ".tif"), "label": (".png", ".tif")}
SIDES = [(side, suffix) for side in FORMATS for suffix in FORMATS[side]]


def picture_of(side):
    return Image.fromarray(SPACE.colours[IDS] if side == "image" else IDS)


@pytest.mark.parametrize("side, suffix", SIDES)
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_an_orientation_tag_is_no_matter_of_format(tmp_path, side, suffix, orientation):
    picture = picture_of(side)
    tags = picture.getexif()
    tags[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    more = {"compression": "tiff_lzw"} if suffix == ".tif" else {}
    picture.save(path, exif=tags, **more)
    if orientation == 1:
        assert READ[side](path).shape[:2] == (6, 4)
    else:
        with pytest.raises(UserError, match=rf"a{suffix}: turned or mirrored.*orientation {orientation}"):
            READ[side](path)


def test_an_orientation_that_stands_behind_the_pixels(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    picture_of("image").save(tmp_path / "a.png", pnginfo=text)
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"iTXt") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start : start + length], content[:start] + content[start + length :]
    end = rest.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(rest[:end] + chunk + rest[end:])
    with pytest.raises(UserError, match="orientation 6"):
        read_image(tmp_path / "a.png")


def palette_picture():
    picture = Image.fromarray(IDS)
    picture.putpalette(SPACE.colours.tobytes())
    return picture


def shallow():
    """A 4-bit greyscale PNG: Pillow says its transparent colour in the file's depth and its pixels in 8 bits."""
    rows = b"".join(b"\0" + bytes([a << 4 | b for a, b in row.reshape(-1, 2).tolist()]) for row in IDS)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 4, 6, 4, 0, 0, 0, 0)), (b"tRNS", struct.pack(">H", int(IDS[0, 0])))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


HERE, NOWHERE = int(IDS[0, 0]), 9  # an id that occurs, one that does not
TRANSPARENT = {  # (picture, transparency, does a pixel have it?)
    "grey value": (lambda: Image.fromarray(IDS), HERE, True),
    "grey value that does not occur": (lambda: Image.fromarray(IDS), NOWHERE, False),
    "colour": (lambda: Image.fromarray(SPACE.colours[IDS]), tuple(SPACE.colours[HERE].tolist()), True),
    "colour that does not occur": (lambda: Image.fromarray(SPACE.colours[IDS]), (1, 2, 3), False),
    "palette entry": (palette_picture, HERE, True),
    "palette entries, half": (palette_picture, bytes([255] * HERE + [128]), True),
    "palette entries, none": (palette_picture, bytes([255] * 5), False),
}


@pytest.mark.parametrize("side", ["image", "label"])
@pytest.mark.parametrize("case", TRANSPARENT)
def test_a_transparent_colour_of_a_png(tmp_path, side, case):
    make, transparency, occurs = TRANSPARENT[case]
    make().save(tmp_path / "a.png", transparency=transparency)
    if occurs:
        with pytest.raises(UserError, match=r"a.png: a picture with transparent parts; save it opaque"):
            READ[side](tmp_path / "a.png")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            READ[side](tmp_path / "a.png")


@pytest.mark.parametrize("side", ["image", "label"])
def test_a_transparent_colour_of_fewer_bits(tmp_path, side):
    (tmp_path / "a.png").write_bytes(shallow())
    with pytest.raises(UserError, match="transparent parts"):
        READ[side](tmp_path / "a.png")


@pytest.mark.parametrize("side, suffix", [("image", ".png"), ("image", ".webp"), ("image", ".tif"), ("label", ".png"),
                                          ("label", ".tif"), ("label", ".bmp")])  # fmt: skip
def test_an_alpha_channel(tmp_path, side, suffix):
    rgba = np.dstack([SPACE.colours[IDS], np.full(IDS.shape, 255, np.uint8)])
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rgba).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(READ[side](path), SPACE.colours[IDS] if side == "image" else IDS)
    if suffix == ".bmp":  # its fourth byte means nothing as Pillow writes it
        return
    rgba[2, 3, 3] = 254
    Image.fromarray(rgba).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    with pytest.raises(UserError, match="transparent parts"):
        READ[side](path)


@pytest.mark.parametrize("side, suffix", [("image", ".webp"), ("image", ".tif"), ("label", ".png"), ("label", ".tif")])
def test_several_pictures_in_one_file(tmp_path, side, suffix):
    first, second = picture_of(side), Image.fromarray(np.asarray(picture_of(side))[::-1].copy())
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=rf"a{suffix}: 2 pictures in one file"):
        READ[side](tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix, more", [(".bmp", {}), (".tif", {}), (".tiff", {"compression": "tiff_lzw"}),
                                          (".TIF", {"compression": "tiff_adobe_deflate"}), (".png", {})])  # fmt: skip
@pytest.mark.parametrize("mode", ["grey", "palette", "colours"])
def test_labels_in_formats_that_keep_ids(tmp_path, suffix, more, mode):
    picture = {
        "grey": Image.fromarray(IDS),
        "palette": palette_picture(),
        "colours": Image.fromarray(SPACE.colours[IDS]),
    }
    picture[mode].save(tmp_path / f"a{suffix}", **more)
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}", SPACE), IDS)


def test_labels_of_one_bit(tmp_path):
    for suffix in (".png", ".bmp", ".tif"):
        Image.fromarray(IDS > 2).save(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}", SPACE), IDS > 2)


def test_tiffs_that_do_not_keep_ids(tmp_path):
    cases = {
        "as jpeg": (Image.fromarray(IDS), {"compression": "jpeg"}, "compressed as jpeg, which changes ids"),
        "16 bits": (Image.fromarray(IDS.astype(np.uint16)), {}, "a 16-bit label"),
        "inverted": (Image.fromarray(255 - IDS), {"tiffinfo": {262: 0}}, "inverted greys"),
    }
    for name, (picture, more, words) in cases.items():
        picture.save(tmp_path / f"{name}.tif", **more)
        with pytest.raises(UserError, match=words):
            read_label(tmp_path / f"{name}.tif", SPACE)
