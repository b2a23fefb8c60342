"""Real files, wrong in one way each: one sentence that names the file and the mend, exit status 2, no store."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from datasets.files import read_image
from tests.datasets.builders import build_camvid
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
