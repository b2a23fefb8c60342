"""Real files, wrong in one way each: one sentence that names the file and the mend, exit status 2, no store."""

import contextlib
import json
import os
import resource
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.errors import UserError
from datasets.packed import open_store
from datasets.prepare import main
from tests.datasets.builders import (
    build_ade_authors,
    build_ade_challenge,
    build_camvid,
    build_cityscapes,
    build_cityscapes_25k,
    space_of,
)

SMALL = ("--height", "8", "--width", "16", "--workers", "1")
SQUARE = ("--height", "8", "--width", "8", "--workers", "1")


@pytest.fixture
def place():
    """A directory that anybody may enter, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="bad input "))  # a path with spaces
    directory.chmod(0o777)
    yield directory
    for parent, _, _ in os.walk(directory):
        Path(parent).chmod(0o777)
    shutil.rmtree(directory)


@contextlib.contextmanager
def unprivileged():
    """Permissions don't stop root, so as root become nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def expect_refusal(capsys, arguments, out, *words):
    """Ends with status 2 and one line on stderr that has these words; neither a store nor a part of one remains."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(out)])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for word in words:
        assert word in lines[0]
    assert_no_store(out)


def assert_no_store(out):
    assert not out.exists()
    assert not out.with_name(f".{out.name}.partial").exists()
    with pytest.raises(UserError):
        open_store(out)


# --- one file of a folder like CamVid's is wrong; the sentence names this file


def truncate(path, keep=0.5):
    os.truncate(path, int(path.stat().st_size * keep))


def resave(path, convert):
    convert(Image.open(path)).save(path)


def one_pixel(path, value):
    pixels = np.array(Image.open(path))
    pixels[3, 5] = value
    Image.fromarray(pixels).save(path)


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


BAD_FILES = {
    "image truncated": ("images", truncate, "truncated"),
    "image truncated by a little": ("images", lambda p: truncate(p, 0.9), "truncated"),
    "image empty": ("images", lambda p: p.write_bytes(b""), "empty"),
    "image is text": ("images", lambda p: p.write_text("<html>404</html>"), "not a picture"),
    "image damaged in the middle": ("images", damaged_middle, "unreadable"),
    "image JPEG called PNG": ("images", as_jpeg, "a JPEG file by its content"),
    "image transparent": ("images", lambda p: resave(p, transparent), "transparent parts"),
    "image 16-bit": ("images", lambda p: resave(p, lambda i: i.convert("I;16")), "save it as 8-bit RGB"),
    "image decompression bomb": ("images", lambda p: bomb(p, "RGB"), "scale the picture down"),
    "image is a dangling link": ("images", lambda p: (p.unlink(), p.symlink_to("nothing.png")), "no such file"),
    "image links to itself": ("images", lambda p: (p.unlink(), p.symlink_to(p.name)), "cannot be read"),
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


def test_errors_in_other_processes_are_the_same_sentence(place, capsys):
    """Of several bad files always the first is named."""
    build_camvid(place / "source", names="abcdefgh")
    for name in "gcf":
        truncate(place / f"source/labels/train/{name}.png")
    arguments = ["camvid", "--source", str(place / "source"), *SMALL[:-1], "3"]
    expect_refusal(capsys, arguments, place / "s", str(place / "source/labels/train/c.png"), "truncated")


# --- folders that are wrong as a whole


def loop(place):
    (place / "source/images/train/loop").symlink_to(place / "source/images", target_is_directory=True)
    return "images/train/loop"


def not_utf8(place):
    shutil.copy(place / "source/images/train/a.png", os.fsencode(place / "source/images/train") + b"/\xff.png")
    return "not UTF-8; rename"


def no_source(place):
    shutil.rmtree(place / "source")
    return "no such directory; give the folder"


def another_data_set(place):
    shutil.rmtree(place / "source")
    build_cityscapes(place / "source")
    return "no images/train with labels/train and no train with trainannot; give the folder"


def twice(place):
    for copy in ("1", "2"):
        shutil.copytree(place / "source/labels", place / f"source/{copy}/labels")
    shutil.rmtree(place / "source/labels")
    return "remove one, or point --source"


def emptied(directory, ignored=None):
    def spoil(place):
        for path in (place / "source" / directory).iterdir():
            path.unlink()
        if ignored:
            (place / "source" / directory / ignored).write_bytes(b"x")
        return f"{directory}: no *"

    return spoil


def removed(directory):
    def spoil(place):
        shutil.rmtree(place / "source" / directory)
        return "with labels/"

    return spoil


BAD_FOLDERS = {
    "no such directory": no_source,
    "images missing": removed("images"),
    "another data set": another_data_set,
    "validation missing": removed("labels/val"),
    "no files": emptied("images/train"),
    "hidden files only": emptied("labels/val", ".DS_Store"),
    "other files only": emptied("labels/val", "readme.txt"),
    "symlink loop": loop,
    "name that is not UTF-8": not_utf8,
    "twice": twice,
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders(case, place, capsys):
    build_camvid(place / "source")
    words = BAD_FOLDERS[case](place)
    expect_refusal(capsys, ["camvid", "--source", str(place / "source"), *SMALL], place / "s", words)


@pytest.mark.parametrize("closed", ["images/train", "labels/val", "images/train/b.png", "labels/val/a.png"])
def test_without_permission(closed, place, capsys):
    build_camvid(place / "source")
    (place / "source" / closed).chmod(0)
    Image.init()  # Pillow's plug-ins are loaded while that is still allowed
    with unprivileged():
        arguments = ["camvid", "--source", str(place / "source"), *SMALL]
        expect_refusal(capsys, arguments, place / "s", closed, "mend its permissions")


# --- where the store goes


def test_out_without_permission(place, capsys):
    build_camvid(place / "source")
    (place / "locked").mkdir(mode=0o555)
    with unprivileged():
        arguments = ["camvid", "--source", str(place / "source"), *SMALL]
        expect_refusal(capsys, arguments, place / "locked/s", "locked", "choose another --out")


def test_out_exists(place, capsys):
    build_camvid(place / "source")
    (place / "s").mkdir()
    (place / "s/mine").write_text("precious")
    with pytest.raises(SystemExit):
        main(["camvid", "--source", str(place / "source"), *SMALL, "--out", str(place / "s")])
    assert "exists already; delete it or choose another --out" in capsys.readouterr().err
    assert (place / "s/mine").read_text() == "precious"


def test_out_is_below_a_file(place, capsys):
    build_camvid(place / "source")
    (place / "file").write_text("x")
    arguments = ["camvid", "--source", str(place / "source"), *SMALL]
    expect_refusal(capsys, arguments, place / "file/s", "file", "choose another --out")


def test_disk_too_full_to_begin(place, capsys, monkeypatch):
    build_camvid(place / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    arguments = ["camvid", "--source", str(place / "source"), *SMALL]
    expect_refusal(capsys, arguments, place / "s", str(place / "s"), "0.0 MB free; free some space")


@pytest.mark.parametrize("limit", [1000, 1300])
def test_files_may_not_grow(limit, place, capsys):
    """As a full disk: a limit on file size stops the reservation (of 1152 bytes), or the index at the very end."""
    build_camvid(place / "source")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        arguments = ["camvid", "--source", str(place / "source"), *SMALL]
        expect_refusal(capsys, arguments, place / "s", "cannot write the store", "free space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- flags, and the other sources


def removing(*paths):
    def spoil(root):
        for path in paths:
            shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()

    return spoil


def ade_of_other_proportions(root):
    resave(root / "ADE15c_indoor_lbl/kitchen/ADE_train_00000001.png", lambda i: i.resize((60, 60), 0))


def ade_id_95(root):
    one_pixel(root / "ADE15c_indoor_val_lbl/office/ADE_val_00000002.png", 95)


def challenge_id_151(root):
    one_pixel(root / "ADEChallengeData2016/annotations/validation/ADE_val_00000000.png", 151)


def challenge_without_rooms(root):
    path = root / "ADEChallengeData2016/sceneCategories.txt"
    path.write_text(path.read_text().replace("bathroom", "beach").replace("corridor", "beach"))


def second_label_of_a_frame(root):
    labels = root / "drn_d_105_000_test"
    shutil.copy(labels / "ulm_000001_000005_leftImg8bit.png", labels / "ulm_000001_000005_other.png")


def extra_of_another_shape(root):
    for path in (root / "leftImg8bit_trainextra/leftImg8bit/train_extra/ulm", root / "drn_d_105_000_test"):
        resave(path / "ulm_000001_000005_leftImg8bit.png", lambda i: i.resize((48, 32), 0))


def misnamed(root):
    (root / "drn_d_105_000_test/palette.png").write_bytes(b"x")


NOTHING = removing()
OTHER_SOURCES = {
    "cityscapes without gtFine": (build_cityscapes, removing("gtFine"), "cityscapes", "no gtFine/train in it; give"),
    "cityscapes without images": (build_cityscapes, removing("leftImg8bit/val"), "cityscapes", "no leftImg8bit/val"),
    "a city without labels": (
        build_cityscapes, removing("gtFine/train/aachen"), "cityscapes", "aachen_000000_000019_leftImg8bit.png: no"),
    "25k without relabelled frames": (build_cityscapes, NOTHING, "cityscapes_25k", "no gtFine_new/train"),
    "25k without extra frames": (
        build_cityscapes_25k, removing("leftImg8bit_trainextra"), "cityscapes_25k", "no leftImg8bit/train_extra"),
    "25k without extra labels": (
        build_cityscapes_25k, removing("drn_d_105_000_test"), "cityscapes_25k", "no drn_d_105_000_test"),
    "25k, one extra label missing": (
        build_cityscapes_25k, removing("drn_d_105_000_test/ulm_000001_000005_leftImg8bit.png"), "cityscapes_25k",
        "ulm_000001_000005_leftImg8bit.png: no label of the same name"),
    "25k, two labels of a frame": (build_cityscapes_25k, second_label_of_a_frame, "cityscapes_25k", "remove one"),
    "25k, a file that is no frame": (build_cityscapes_25k, misnamed, "cityscapes_25k", "palette.png: not named CITY"),
    "25k, not 2:1": (build_cityscapes_25k, extra_of_another_shape, "cityscapes_25k", "48x32 pixels; frames of City"),
    "ade, other proportions": (build_ade_authors, ade_of_other_proportions, "ade_indoor", "other proportions"),
    "ade, id 95": (build_ade_authors, ade_id_95, "ade_indoor", "ADE_val_00000002.png: id 95 at 1 pixels"),
    "ade without validation": (
        build_ade_authors, removing("ADE15c_indoor_val_lbl"), "ade_indoor", "no ADE15c_indoor_val_lbl in it"),
    "ade, neither": (build_cityscapes, NOTHING, "ade_indoor", "get one with bash datasets/download_ade.sh"),
    "challenge, id 151": (build_ade_challenge, challenge_id_151, "ade_indoor", "id 151 at 1 pixels"),
    "challenge without scenes": (
        build_ade_challenge, removing("ADEChallengeData2016/sceneCategories.txt"), "ade_indoor",
        "sceneCategories.txt: missing"),
    "challenge without rooms": (
        build_ade_challenge, challenge_without_rooms, "ade_indoor", "no picture of the ten kinds of rooms"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_SOURCES)
def test_other_sources(case, place, capsys):
    build, spoil, name, words = OTHER_SOURCES[case]
    build(place / "source")
    spoil(place / "source")
    size = SQUARE if name == "ade_indoor" else SMALL
    expect_refusal(capsys, [name, "--source", str(place / "source"), *size], place / "s", words)


BAD_FLAGS = {
    "height": (["toy_street", "--height", "48", "--width", "96"], "--height 48: not a power of two"),
    "width": (["toy_street", "--height", "64", "--width", "192"], "--width 192: not aspect x height"),
    "workers": (["toy_street", "--workers", "0"], "--workers 0"),
    "scenes": (["toy_street", "--num_train", "0"], "--num_train 0"),
    "seed": (["toy_street", "--seed", "-1"], "--seed -1: negative"),
    "rooms are square": (["ade_indoor", "--source", ".", "--height", "8", "--width", "16"], "--width 16"),
    "25k is wide": (["cityscapes_25k", "--source", ".", "--height", "8", "--width", "8"], "--width 8"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_flags(case, place, capsys):
    arguments, words = BAD_FLAGS[case]
    expect_refusal(capsys, arguments, place / "s", words)


BAD_TABLES = {
    "not there": (None, "table.json: no such label table"),
    "not JSON": ("{", "table.json: not a JSON file"),
    "two classes of one id": (json.dumps(space_of(2).to_dict()).replace("[1]", "[0]"), "table.json: raw id 0 occurs"),
    "fewer classes than ids": (json.dumps(space_of(4).to_dict()), "not in the label table 'test'; mend"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_tables(case, place, capsys):
    build_camvid(place / "source")
    content, words = BAD_TABLES[case]
    if content:
        (place / "table.json").write_text(content)
    folders = ["--images", str(place / "source/images"), "--labels", str(place / "source/labels")]
    arguments = ["folder", *folders, "--labelspace", str(place / "table.json"), *SMALL]
    expect_refusal(capsys, arguments, place / "s", words)


def test_colour_coded_labels_without_a_table(place, capsys):
    build_camvid(place / "source")
    resave(place / "source/labels/train/b.png", lambda i: i.convert("RGB"))
    folders = ["--images", str(place / "source/images"), "--labels", str(place / "source/labels")]
    words = "labels/train/b.png: colour-coded; give a table"
    expect_refusal(capsys, ["folder", *folders, *SMALL], place / "s", words)


def test_training_folder_without_validation(place, capsys):
    build_camvid(place / "source")
    shutil.rmtree(place / "source/images/val")
    folders = ["--images", str(place / "source/images"), "--labels", str(place / "source/labels")]
    expect_refusal(capsys, ["folder", *folders, *SMALL], place / "s", "images: a folder 'train' and no 'val'")


@pytest.mark.parametrize("count", [0, 3, 9])
def test_validation_of_nothing_or_everything(count, place, capsys):
    build_camvid(place / "source")
    folders = ["--images", str(place / "source/images/train"), "--labels", str(place / "source/labels/train")]
    arguments = ["folder", *folders, "--num_val", str(count), *SMALL]
    expect_refusal(capsys, arguments, place / "s", f"--num_val {count}", "use a number from 1 to 2")
