"""Label tables; and ids that are no class, filled from the nearest pixel that has one or left out with their pair."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from datasets.doctor import main as doctor
from datasets.errors import UserError
from datasets.files import read_label
from datasets.labels import SPACES_DIR, LabelSpace, colourise, distinct_colours, fill_ignored, load_space, one_hot
from datasets.sources import toy_street
from tests.datasets.builders import save_png, space_of
from tests.datasets.refusals import expect_refusal
from tests.datasets.sources.test_folder import SIZE, build_folder, layouts, palette_png, prepare

CLASS_COUNTS = {"ade_indoor": 95, "camvid": 12, "cityscapes": 35, "cityscapes_25k": 20, "toy_street": 11}


def table(**changes):
    classes = [
        {"train_id": 0, "name": "sky", "colour": [1, 2, 3], "raw_ids": [7]},
        {"train_id": 1, "name": "road", "colour": [4, 5, 6], "raw_ids": [8, 9]},
    ]
    return {"name": "t", "unlisted": "error", "classes": classes, **changes}


def class_with(**changes):
    return table(classes=[{"train_id": 0, "name": "sky", "colour": [1, 2, 3], "raw_ids": [7], **changes}])


@pytest.mark.parametrize("name", sorted(CLASS_COUNTS))
def test_tables_that_come_with_the_code(name):
    space = load_space(name)
    assert space.name == name
    assert space.num_classes == CLASS_COUNTS[name] == len(space.colours) == len(set(space.names))
    assert all(c.raw_ids for c in space.classes)


def test_every_table_is_tested():
    assert {path.stem for path in SPACES_DIR.glob("*.json")} == set(CLASS_COUNTS)


def test_toy_street_table_is_the_programs():
    space = load_space("toy_street")
    assert tuple((c.name, c.colour, c.raw_ids) for c in space.classes) == tuple(
        (name, colour, (i,)) for i, (name, colour) in enumerate(toy_street.CLASSES)
    )


def test_cityscapes_25k_is_the_usual_19_train_ids():
    raw = np.arange(256, dtype=np.uint8)[None]
    expected = np.full(256, 19)
    for train_id, raw_id in enumerate([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]):
        expected[raw_id] = train_id
    np.testing.assert_array_equal(load_space("cityscapes_25k").remap(raw, "x")[0], expected)


def test_cityscapes_keeps_ids_and_maps_255_to_unknown():
    raw = np.array([[*range(34), 255]], np.uint8)
    np.testing.assert_array_equal(load_space("cityscapes").remap(raw, "x")[0], range(35))


@pytest.mark.parametrize("package_table, columns", [("cityscapes", "id"), ("cityscapes_25k", "trainId")])
def test_cityscapes_tables_agree_with_cityscapesscripts(package_table, columns):
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    space = load_space(package_table)
    theirs = {getattr(label, columns) % 256: label for label in labels if getattr(label, columns) % 256 != 255}
    assert set(theirs) == set(range(space.num_classes - 1))  # the last of ours is unknown
    for train_id, label in theirs.items():
        ours = space.classes[train_id]
        assert (ours.name, ours.colour, ours.raw_ids) == (label.name, label.color, (label.id,))


def test_dict_and_json_round_trip_and_hash():
    space = LabelSpace.from_dict(table())
    again = LabelSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space and again.hash == space.hash
    others = [table(unlisted=1), class_with(), table(classes=table()["classes"][::-1])]
    hashes = [LabelSpace.from_dict(t).hash for t in others]
    assert hashes[0] != space.hash != hashes[1]
    assert hashes[2] == space.hash  # the order in the file means nothing, train ids do


def test_dict_survives_weights_only_loading(tmp_path):
    space = load_space("camvid")
    torch.save({"space": space.to_dict()}, tmp_path / "x.pt")
    assert LabelSpace.from_dict(torch.load(tmp_path / "x.pt", weights_only=True)["space"]) == space


def test_remap_with_many_raw_ids_and_unlisted():
    raw = np.array([[7, 8], [9, 77]], np.uint8)
    with pytest.raises(UserError, match=r"some/file.png: id 77 at 1 pixels.*'t'.*mend"):
        LabelSpace.from_dict(table()).remap(raw, "some/file.png")
    mapped = LabelSpace.from_dict(table(unlisted=0)).remap(raw, "some/file.png")
    np.testing.assert_array_equal(mapped, [[0, 1], [1, 0]])
    assert mapped.dtype == np.uint8


def test_remap_colours():
    rgb = np.array([[[4, 5, 6], [1, 2, 3], [9, 9, 9]]], np.uint8)
    with pytest.raises(UserError, match=r"f.png: colour \(9, 9, 9\) at 1 pixels"):
        LabelSpace.from_dict(table()).remap_colours(rgb, "f.png")
    np.testing.assert_array_equal(LabelSpace.from_dict(table(unlisted=1)).remap_colours(rgb, "f.png"), [[1, 0, 1]])
    np.testing.assert_array_equal(LabelSpace.from_dict(table()).remap_colours(rgb[:, :2], "f.png"), [[1, 0]])
    with pytest.raises(UserError, match="'unlabeled' and 'ego vehicle'"):
        load_space("cityscapes").remap_colours(np.zeros((1, 1, 3), np.uint8), "f.png")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ([], "no list 'classes'"),
        (table(classes=[]), "no list 'classes'"),
        (table(classes=[3]), "has no name"),
        (table(name=None), "no 'name'"),
        (table(colour=1), "unknown key 'colour'"),
        (table(unlisted=2), "'unlisted' is 2"),
        (table(unlisted="void"), "'unlisted' is 'void'"),
        (table(unlisted=True), "'unlisted' is True"),
        (class_with(train_id=1), r"train ids \[1\]"),
        (class_with(train_id="0"), "train_id '0'"),
        (class_with(train_id=-1), "train_id -1; give it a whole number from 0 to 0"),
        (class_with(train_id=10**18), "train_id 1000000"),
        (class_with(train_id=256), "train_id 256"),
        (class_with(train_id=0.0), "train_id 0.0"),
        (class_with(train_id=-1, colour=None), "train_id -1"),
        (class_with(raw_ids=[-1]), r"raw ids \[-1\]"),
        (class_with(raw_ids=3), "raw ids 3"),
        (class_with(name=""), "has no name"),
        (class_with(name="two\nlines"), "has no name of one line"),
        (class_with(name="\ud800"), "has no name of one line"),
        (table(name="  "), "no 'name'"),
        (table(classes=[{"train_id": 0, "name": "\u00e9"}, {"train_id": 1, "name": "e\u0301 "}]), "occurs twice"),
        (class_with(raw_ids=[256]), r"raw ids \[256\]"),
        (class_with(raw_ids=[7, 7]), "raw id 7 occurs twice"),
        (class_with(colour=[1, 2]), r"colour \[1, 2\]"),
        (class_with(colour=[1, 2, 300]), r"colour \[1, 2, 300\]"),
        (class_with(color=[1, 2, 3]), "unknown key 'color'"),
        (table(classes=[{"train_id": i, "name": f"c{i}"} for i in range(257)]), "257 classes"),
        (table(classes=[{"train_id": i, "name": "same"} for i in range(2)]), "name 'same' occurs twice"),
    ],
)
def test_wrong_tables_are_refused_by_name_of_file(wrong, message, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(UserError, match=message) as error:
        load_space(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_tables_as_editors_on_windows_save_them(tmp_path, encoding):
    content = json.dumps(table(name="Straße"), ensure_ascii=False)
    (tmp_path / "t.json").write_text(content, encoding=encoding)
    assert load_space(tmp_path / "t.json") == LabelSpace.from_dict(table(name="Straße"))


@pytest.mark.parametrize("content", ["{", "\xff", "", "[" * 100_000, '{"name": 1' + "0" * 5000 + "}"])
def test_unreadable_table_files(content, tmp_path):
    (tmp_path / "t.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"t\.json: not a JSON file"):
        load_space(tmp_path / "t.json")
    with pytest.raises(UserError, match="no such label table.*camvid"):
        load_space("no_such_space")


def test_a_table_without_colours_gets_distinct_ones():
    names = [{"train_id": i, "name": f"c{i}"} for i in range(256)]
    space = LabelSpace.from_dict({"name": "t", "classes": names})
    assert len({c.colour for c in space.classes}) == 256 == len(set(distinct_colours(256)))
    assert not space.has_raw_ids


def test_colourise_and_one_hot_against_loops():
    space = space_of(5)
    labels = np.random.default_rng(0).integers(0, 5, (2, 1, 3, 4), dtype=np.uint8)
    shown, planes = colourise(labels, space.colours), one_hot(torch.from_numpy(labels), 5)
    assert shown.shape == (2, 1, 3, 4, 3) and shown.dtype == np.uint8
    assert planes.shape == (2, 5, 3, 4) and planes.dtype == torch.float32
    for n, _, y, x in np.ndindex(labels.shape):
        label = labels[n, 0, y, x]
        assert tuple(shown[n, 0, y, x]) == space.classes[label].colour
        assert planes[n, :, y, x].tolist() == [float(c == label) for c in range(5)]


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


def build_bordered(root, count=4):
    """Labels of 0 on the left and 1 on the right, with a border of 255 in between."""
    for k in range(count):
        labels = np.repeat(np.uint8([[0, 0, 0, 255, 255, 1, 1, 1]]), 8, 0)
        save_png(root / f"images/{k}.png", RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        save_png(root / f"labels/{k}.png", labels)
    return np.repeat(np.uint8([[0] * 4 + [1] * 4]), 8, 0)


@pytest.mark.parametrize("way", ["flag", "flag and table", "table", "unlisted"])
def test_by_flag_and_by_table(tmp_path, way):
    wanted = build_bordered(tmp_path)
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
    build_bordered(tmp_path)
    folders = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    expect_refusal(capsys, ["folder", *folders, *SIZE, *flags], tmp_path / "s", words)


def test_the_doctor_counts_what_is_labelled(tmp_path, capsys):
    build_bordered(tmp_path)
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
