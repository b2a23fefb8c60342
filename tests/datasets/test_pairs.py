"""Folders that are wrong as a whole, of every source: one sentence, exit status 2, no store."""

import os
import shutil

import pytest

from tests.datasets.builders import (
    build_ade_authors,
    build_ade_challenge,
    build_camvid,
    build_cityscapes,
    build_cityscapes_25k,
)
from tests.datasets.refusals import SMALL, SQUARE, expect_refusal, one_pixel, resave

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
