"""Ids that are no class: filled from the nearest pixel that has one, or the pair is left out."""

import dataclasses
import json

import numpy as np
import pytest

from datasets.doctor import main as doctor
from datasets.errors import UserError
from datasets.files import read_label
from datasets.labels import LabelSpace, fill_ignored
from tests.datasets.builders import save_png, space_of
from tests.datasets.refusals import expect_refusal
from tests.datasets.test_folder import SIZE, build_folder, layouts, palette_png, prepare

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("share", [0.1, 0.7, 0.99])
def test_the_class_of_the_nearest_pixel_by_brute_force(share):
    labels, ignored = RNG.integers(0, 5, (13, 9), dtype=np.uint8), RNG.random((13, 9)) < share
    filled = fill_ignored(labels, ignored, "x.png")
    places = np.argwhere(~ignored)
    for place in np.argwhere(np.ones_like(ignored)):
        distances = ((places - place) ** 2).sum(1)
        nearest = places[distances == distances.min()]
        assert filled[tuple(place)] in labels[tuple(nearest.T)]
    np.testing.assert_array_equal(filled[~ignored], labels[~ignored])


def test_nothing_to_fill_from():
    with pytest.raises(UserError, match="x.png: every pixel is ignored"):
        fill_ignored(np.zeros((2, 2), np.uint8), np.ones((2, 2), bool), "x.png")


def build(root, count=4):
    """Labels of 0 on the left and 1 on the right, with a border of 255 in between."""
    for k in range(count):
        labels = np.repeat(np.uint8([[0, 0, 0, 255, 255, 1, 1, 1]]), 8, 0)
        save_png(root / f"images/{k}.png", RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        save_png(root / f"labels/{k}.png", labels)
    return np.repeat(np.uint8([[0] * 4 + [1] * 4]), 8, 0)


@pytest.mark.parametrize("way", ["flag", "flag and table", "table", "unlisted"])
def test_by_flag_and_by_table(tmp_path, way):
    wanted = build(tmp_path)
    table = space_of(2).to_dict()
    table |= {"ignored": [255]} if way == "table" else {"unlisted": "ignored"} if way == "unlisted" else {}
    (tmp_path / "table.json").write_text(json.dumps(table))
    flags = ["--labelspace", str(tmp_path / "table.json")] if way != "flag" else []
    flags += ["--ignore", "255"] if "flag" in way else []
    store = prepare(tmp_path, *flags)
    assert store.label_space.num_classes == 2 and not store.label_space.ignores
    if way == "flag":
        assert store.label_space.names == ("id_0", "id_1")
    else:  # the same classes as of data where nothing was ignored, so networks of both fit together
        assert store.label_space.hash == space_of(2).hash
    for layout in layouts(store).values():
        np.testing.assert_array_equal(layout, wanted)


def test_ignored_colours(tmp_path):
    """PASCAL VOC: classes by palette, borders in a colour of their own at index 255."""
    space = dataclasses.replace(space_of(3), ignored=((224, 224, 192),))
    labels = np.repeat(np.uint8([[0, 0, 255, 2, 2]]), 3, 0)
    palette = np.zeros((256, 3), np.uint8)
    palette[:3], palette[255] = space.colours, (224, 224, 192)
    palette_png(tmp_path / "p.png", labels, palette)
    save_png(tmp_path / "rgb.png", palette[labels])
    for name in ("p.png", "rgb.png"):
        filled = read_label(tmp_path / name, space, "colours" if name == "p.png" else None)
        assert filled[:, [0, 1, 3, 4]].tolist() == [[0, 0, 2, 2]] * 3 and set(filled[:, 2]) <= {0, 2}
    by_id = dataclasses.replace(space_of(3), ignored=(255,))
    np.testing.assert_array_equal(read_label(tmp_path / "p.png", by_id)[:, :2], 0)


def test_pairs_of_which_too_much_is_ignored(tmp_path, capsys):
    build_folder(tmp_path, [f"{k}" for k in range(6)], values=(0, 1))
    for k, rows in ((2, 5), (4, 8)):
        labels = np.zeros((8, 8), np.uint8)
        labels[:rows] = 255
        labels[0, 0] = 255 if k == 4 else 7  # an id that would be a class if this pair stayed
        save_png(tmp_path / f"labels/{k}.png", labels)
    store = prepare(tmp_path, "--ignore", "255")
    assert sorted(layouts(store)) == ["0", "1", "3", "5"] and store.label_space.names == ("id_0", "id_1")
    assert "2 pairs are left out, more than 0.5 of each is ignored: 2, 4" in capsys.readouterr().err
    (tmp_path / "s").rename(tmp_path / "first")
    kept = layouts(prepare(tmp_path, "--ignore", "255", "--most_ignored", "1"))
    assert sorted(kept) == ["0", "1", "2", "3", "5"]  # there is nothing that the last could be filled with


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--ignore", "256"], "--ignore 256: not ids"),
        (["--ignore", "void"], "--ignore void: not ids"),
        (["--ignore", "-1"], "--ignore -1: not ids"),
        (["--ignore", "255", "--most_ignored", "nan"], "--most_ignored nan"),
        (["--ignore", "1", "--labelspace", "camvid"], "--ignore 1: the label table 'camvid' has it as 'building'"),
        (["--ignore", "255", "--most_ignored", "0"], "--most_ignored 0.0: of every pair a larger share is ignored"),
    ],
)
def test_what_cannot_be_ignored(tmp_path, capsys, flags, words):
    build(tmp_path)
    folders = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    expect_refusal(capsys, ["folder", *folders, *SIZE, *flags], tmp_path / "s", words)


def test_the_doctor_counts_what_is_labelled(tmp_path, capsys):
    build(tmp_path)
    doctor(["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"), "--ignore", "255",
            "--workers", "1"])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "ok" and not any("id_255" in line for line in lines)
    assert any("50.000%" in line for line in lines) and any("25 % of pixels are ignored" in line for line in lines)


def test_a_table_says_an_id_once():
    table = space_of(2).to_dict()
    for ignored, words in (([1], "1 is class 'class1' and 'ignored'"), ([[0, 255, 7]], "'class0' and 'ignored'"),
                           ([256], "'ignored' is"), (255, "'ignored' is 255"), ([[1, 2]], "'ignored' is")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            LabelSpace.from_dict(table | {"ignored": ignored})
    space = LabelSpace.from_dict(table | {"ignored": [9, [1, 2, 3]], "unlisted": "ignored"})
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
