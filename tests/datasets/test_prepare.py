"""Permissions, full disks, flags and tables: one sentence, exit status 2, no store."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from datasets.errors import UserError
from datasets.packed import open_store
from datasets.prepare import main
from tests.datasets.builders import build_camvid, build_store, space_of
from tests.datasets.refusals import SMALL, expect_refusal, resave
from tests.disk import files_up_to


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


@pytest.mark.parametrize(
    "closed", ["images/train", "labels/val", "images/train/b.png", "labels/val/a.png", "images", "labels"]
)
def test_without_permission(closed, place, capsys):
    build_camvid(place / "source")
    (place / "source" / closed).chmod(0)
    Image.init()  # Pillow's plug-ins are loaded while that is still allowed
    with unprivileged():
        arguments = ["camvid", "--source", str(place / "source"), *SMALL]
        expect_refusal(capsys, arguments, place / "s", closed, "mend its permissions")


@pytest.mark.parametrize("closed", ["images", "images/train", "labels/train", "."])
def test_without_permission_to_folders_of_ones_own(closed, place, capsys):
    build_camvid(place / "source")
    (place / "source" / closed).chmod(0)
    with unprivileged():
        arguments = ["folder", "--images", str(place / "source/images"), "--labels", str(place / "source/labels")]
        expect_refusal(capsys, [*arguments, *SMALL], place / "s", "mend its permissions")


def test_store_without_permission(place):
    build_store(place / "s", [(8, 16)], 8, 16)
    (place / "s/train.labels.u8").chmod(0)
    with unprivileged(), pytest.raises(UserError, match="train.labels.u8: cannot be read .* mend its permissions"):
        open_store(place / "s")


@pytest.mark.parametrize("flag", ["--source", "--out", "--labelspace"])
def test_names_that_no_file_can_have(flag, place, capsys):
    build_camvid(place / "source")
    arguments = ["camvid", "--source", str(place / "source")]
    if flag == "--labelspace":
        arguments = ["folder", "--images", str(place / "source/images"), "--labels", str(place / "source/labels")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *SMALL, "--out", str(place / "s"), flag, str(place / ("a" * 300))])
    assert ended.value.code == 2 and "File name too long" in capsys.readouterr().err


# --- where the store goes


def test_out_is_where_the_user_stands(place, capsys, monkeypatch):
    build_camvid(place / "source")
    (place / "s").mkdir()
    monkeypatch.chdir(place / "s")
    with pytest.raises(SystemExit):
        main(["camvid", "--source", "../source", *SMALL, "--out", "."])
    assert "give a new name below it" in capsys.readouterr().err
    assert sorted(p.name for p in place.iterdir()) == ["s", "source"] and not any((place / "s").iterdir())


def test_out_is_a_mounted_disk(place, capsys, monkeypatch):
    build_camvid(place / "source")
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "s")
    arguments = ["camvid", "--source", str(place / "source"), *SMALL]
    expect_refusal(capsys, arguments, place / "s", "give a new name below it")


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
    arguments = ["camvid", "--source", str(place / "source"), *SMALL]
    with files_up_to(limit):
        expect_refusal(capsys, arguments, place / "s", "cannot write the store", "free space")


# --- flags and tables


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
