"""Pictures that are read or refused in one sentence, exit status 2 and no store; files that are written whole."""

import hashlib
import os
import shutil
import signal
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from datasets.errors import UserError
from datasets.files import read_image, read_label, replacing, sha256
from tests.datasets.builders import build_camvid, space_of
from tests.datasets.refusals import SMALL, expect_refusal, one_pixel, resave

# --- one file of a folder like CamVid's is wrong; the sentence names this file


def truncate(path, keep=0.5):
    os.truncate(path, int(path.stat().st_size * keep))


def bomb(path, mode):
    """A small file that says it has 20000 x 20000 pixels."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2 if mode == "RGB" else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10000))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def damaged_middle(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8)
    path.write_bytes(content)


def as_jpeg(path):
    picture = Image.open(path)
    picture.save(path, "JPEG")


def as_palette_of_other_colours(path):
    picture = Image.open(path).convert("P")
    picture.putpalette([v for k in range(12) for v in ((7, 7, 7), (64, 0, 128))[k % 2]])
    picture.save(path)


def as_shrunk_greyscale(path):
    picture = Image.fromarray(np.array(Image.open(path)) % 2).convert("P")
    picture.putpalette([3, 3, 3, 5, 5, 5])
    picture.save(path)


def transparent(picture):
    picture = picture.convert("RGBA")
    picture.putpixel((0, 0), (1, 2, 3, 0))
    return picture


def turned_by_tag(path, orientation):
    picture = Image.open(path)
    tags = picture.getexif()
    tags[ExifTags.Base.Orientation] = orientation
    picture.save(path, exif=tags)


BAD_FILES = {
    "image truncated": ("images", truncate, "truncated"),
    "image truncated by a little": ("images", lambda p: truncate(p, 0.9), "truncated"),
    "image empty": ("images", lambda p: p.write_bytes(b""), "empty"),
    "image is text": ("images", lambda p: p.write_text("<html>404</html>"), "not a picture"),
    "image damaged in the middle": ("images", damaged_middle, "unreadable"),
    "image JPEG called PNG": ("images", as_jpeg, "a JPEG file by its content"),
    "image transparent": ("images", lambda p: resave(p, transparent), "transparent parts"),
    "image 16-bit": ("images", lambda p: resave(p, lambda i: i.convert("I;16")), "save it as 8-bit RGB"),
    "image mirrored by its EXIF tag": ("images", lambda p: turned_by_tag(p, 2), "its EXIF tag (orientation 2)"),
    "image turned by its EXIF tag": ("images", lambda p: turned_by_tag(p, 6), "its EXIF tag (orientation 6)"),
    "image decompression bomb": ("images", lambda p: bomb(p, "RGB"), "scale the picture down"),
    "image is a dangling link": ("images", lambda p: (p.unlink(), p.symlink_to("nothing.png")), "no such file"),
    "image links to itself": ("images", lambda p: (p.unlink(), p.symlink_to(p.name)), "cannot be read"),
    "image is a pipe": ("images", lambda p: (p.unlink(), os.mkfifo(p)), "a pipe or device, no file; remove it"),
    "image of another size": ("images", lambda p: resave(p, lambda i: i.resize((16, 12))), "32x24 pixels"),
    "image of another aspect": ("images", lambda p: resave(p, lambda i: i.resize((32, 32))), "32x24 pixels"),
    "image without label": ("images", lambda p: shutil.copy(p, p.with_name("d.png")), "d.png: no label of the same"),
    "two images of one stem": ("images", lambda p: shutil.copy(p, p.with_suffix(".jpg")), "b.jpg has the same stem"),
    "label truncated": ("labels", truncate, "truncated"),
    "label empty": ("labels", lambda p: p.write_bytes(b""), "empty"),
    "label is a JPEG called PNG": ("labels", as_jpeg, "a JPEG file; save labels as 8-bit greyscale PNG"),
    "label 16-bit": ("labels", lambda p: resave(p, lambda i: i.convert("I;16")), "a 16-bit label; save"),
    "label RGBA": ("labels", lambda p: resave(p, lambda i: i.convert("RGBA")), "a label of mode RGBA; save"),
    "label grey with alpha": ("labels", lambda p: resave(p, lambda i: i.convert("LA")), "a label of mode LA; save"),
    "label with contradicting palette": ("labels", as_palette_of_other_colours, "--palette ids or --palette colours"),
    "label shrunk to a palette of greys": ("labels", as_shrunk_greyscale, "--palette ids or --palette colours"),
    "label in colours that the table lacks": (
        "labels", lambda p: resave(p, lambda i: i.convert("RGB")), "not in the label table 'camvid'; mend"),
    "label decompression bomb": ("labels", lambda p: bomb(p, "L"), "scale the picture down"),
    "label of another size": ("labels", lambda p: resave(p, lambda i: i.resize((64, 48), 0)), "64x48 pixels"),
    "label id outside the table, one pixel": ("labels", lambda p: one_pixel(p, 77), "id 77 at 1 pixels"),
    "label void as 255": ("labels", lambda p: one_pixel(p, 255), "id 255 at 1 pixels"),
    "label without image": ("labels", lambda p: shutil.copy(p, p.with_name("d.png")), "d.png: no image of the same"),
    "label missing": ("labels", lambda p: p.unlink(), "images/train/b.png: no label of the same name"),
    "label name in capitals": ("labels", lambda p: p.rename(p.with_name("B.png")), "B.png: no image of the same"),
    "two labels of one stem": ("labels", lambda p: shutil.copy(p, p.with_suffix(".PNG")), "has the same stem; remove"),
    "label is a directory": ("labels", lambda p: (p.unlink(), p.mkdir()), "b.png: no label of the same name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_one_bad_file(case, place, capsys):
    folder, spoil, words = BAD_FILES[case]
    build_camvid(place / "source")
    path = place / "source" / folder / "train" / "b.png"
    spoil(path)
    names_file = [] if ".png" in words or ".jpg" in words or "stem" in words else [str(path)]
    if "size" in case or "aspect" in case:
        names_file = [str(place / "source/labels/train/b.png"), str(place / "source/images/train/b.png")]
    expect_refusal(capsys, ["camvid", "--source", str(place / "source"), *SMALL], place / "s", words, *names_file)


@pytest.mark.parametrize("tags", [None, b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0nonsense"])
def test_tags_that_turn_nothing_are_no_matter(tmp_path, tags):
    content = np.zeros((4, 6, 3), np.uint8)
    Image.fromarray(content).save(tmp_path / "a.jpg", exif=tags or b"")
    if tags is None:
        turned_by_tag(tmp_path / "a.jpg", 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), content)


def test_errors_in_other_processes_are_the_same_sentence(place, capsys):
    """Of several bad files always the first is named."""
    build_camvid(place / "source", names="abcdefgh")
    for name in "gcf":
        truncate(place / f"source/labels/train/{name}.png")
    arguments = ["camvid", "--source", str(place / "source"), *SMALL[:-1], "3"]
    expect_refusal(capsys, arguments, place / "s", str(place / "source/labels/train/c.png"), "truncated")


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


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_or_the_old_one(tmp_path, durable):
    path = tmp_path / "made for it" / "a.json"
    with replacing(path, durable=durable) as temporary:
        assert temporary.suffix == ".json" and temporary.parent == path.parent
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), replacing(path, durable=durable) as temporary:
        temporary.write_text("half of the sec")
        raise ZeroDivisionError
    assert path.read_text() == "first" and os.listdir(path.parent) == ["a.json"]


def test_processes_that_write_one_file_have_temporary_names_of_their_own(tmp_path):
    child = os.fork()
    if not child:
        with replacing(tmp_path / "a.npy", shared=True) as temporary:
            temporary.write_bytes(b"torn")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    with replacing(tmp_path / "a.npy", shared=True) as temporary:
        assert temporary != left
        temporary.write_bytes(b"whole")
    assert (tmp_path / "a.npy").read_bytes() == b"whole" and left.read_bytes() == b"torn"


def test_sha256_of_more_than_a_block(tmp_path):
    content = os.urandom(1 << 20) + b"and a bit"
    (tmp_path / "f").write_bytes(content)
    assert sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()
