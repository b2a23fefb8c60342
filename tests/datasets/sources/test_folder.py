"""One's own folders: their classes and splits, which files are pairs, and ids that were once saved as JPEG."""

import io
import json
import shutil
import struct
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.doctor import main as doctor
from datasets.errors import UserError
from datasets.files import read_label
from datasets.labels import LabelSpace
from datasets.packed import open_store
from datasets.prepare import main
from datasets.sources.folder import count_ids, scattered_ids
from datasets.sources.toy_street import draw
from tests.datasets.builders import random_pair, save_png, space_of
from tests.datasets.refusals import expect_refusal

SIZE = ("--height", "8", "--width", "8", "--workers", "1")


def build_folder(root, names, values=range(5), folders=("images", "labels")):
    rng = np.random.default_rng(6)
    content = {}
    for name in names:
        image, _ = random_pair(rng, 8, 8)
        content[name] = (image, rng.choice(list(values), (8, 8)).astype(np.uint8))
        save_png(root / folders[0] / f"{name}.png", image)
        save_png(root / folders[1] / f"{name}.png", content[name][1])
    return content


def prepare(root, *flags):
    main(["folder", "--images", str(root / "images"), "--labels", str(root / "labels"), "--out", str(root / "s"),
          *SIZE, *flags])  # fmt: skip
    return open_store(root / "s")


def layouts(store):
    return {name: split.layout(i) for split in store.splits.values() for i, name in enumerate(split.names)}


def test_ids_as_found(tmp_path):
    content = build_folder(tmp_path, ["a b/é", "a b/c", "d"], values=(3, 77, 255))
    store = prepare(tmp_path, "--name", "mine")
    assert store.name == "mine" and store.label_space.names == ("id_3", "id_77", "id_255")
    assert [c.raw_ids for c in store.label_space.classes] == [(3,), (77,), (255,)]
    assert (len(store["train"]), len(store["val"])) == (2, 1)
    for name, layout in layouts(store).items():
        np.testing.assert_array_equal(layout, np.searchsorted([3, 77, 255], content[name][1]))


def test_train_and_val_subfolders_are_the_splits(tmp_path):
    build_folder(tmp_path, ["train/a", "train/b", "val/c", "test/d", "other/e"])
    splits = prepare(tmp_path).splits
    assert {name: splits[name].names for name in splits} == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def test_folders_of_splits_in_capitals(tmp_path):
    build_folder(tmp_path, ["Train/a", "Train/b", "Valid/c"])
    splits = prepare(tmp_path).splits
    assert {name: splits[name].names for name in splits} == {"train": ["a", "b"], "val": ["c"]}


def test_two_folders_of_one_split(tmp_path, capsys):
    build_folder(tmp_path, ["train/a", "val/b", "validation/c"])
    with pytest.raises(SystemExit):
        prepare(tmp_path)
    assert "'val' and 'validation' are both folders of val; remove or join" in capsys.readouterr().err


def test_the_validation_split_depends_on_names_alone(tmp_path):
    names = [f"n{i}" for i in range(40)]
    build_folder(tmp_path / "all", names)
    build_folder(tmp_path / "fewer", names[:39])
    val = set(prepare(tmp_path / "all", "--num_val", "10")["val"].names)
    assert len(val) == 10 and len(val & set(prepare(tmp_path / "fewer", "--num_val", "10")["val"].names)) >= 9


def palette_png(path, indices, colours):
    picture = Image.fromarray(indices.astype(np.uint8)).convert("P")
    picture.putpalette([int(v) for colour in colours for v in colour])
    picture.save(path)


def test_colour_coded_and_palette_labels_by_table(tmp_path):
    """One folder with the same labels as ids, as RGB and as two kinds of palette."""
    content = build_folder(tmp_path, ["ids", "rgb", "palette", "shuffled"])
    space = space_of(5)
    (tmp_path / "table.json").write_text(json.dumps(space.to_dict()))
    Image.fromarray(space.colours[content["rgb"][1]]).save(tmp_path / "labels/rgb.png")
    palette_png(tmp_path / "labels/palette.png", content["palette"][1], space.colours)
    order = np.array([2, 0, 1, 4, 3])  # index k of the palette shows class order[k]
    palette_png(tmp_path / "labels/shuffled.png", np.argsort(order)[content["shuffled"][1]], space.colours[order])
    with pytest.raises(SystemExit):  # colours and indices both make sense and differ
        prepare(tmp_path, "--labelspace", str(tmp_path / "table.json"))
    store = prepare(tmp_path, "--labelspace", str(tmp_path / "table.json"), "--palette", "colours")
    for name, layout in layouts(store).items():
        np.testing.assert_array_equal(layout, content[name][1], err_msg=name)


def test_names_with_endings(tmp_path):
    build_folder(tmp_path, ["a", "b"])
    for name in "ab":
        (tmp_path / f"images/{name}.png").rename(tmp_path / f"images/{name}_RGB.PNG")
        (tmp_path / f"labels/{name}.png").rename(tmp_path / f"labels/{name}_ids.png")
        (tmp_path / f"labels/{name}_instances.png").write_bytes(b"not a label")
    (tmp_path / "images/._a_RGB.PNG").write_bytes(b"left by macOS")
    store = prepare(tmp_path, "--image_ending", "_rgb.png", "--label_ending", "_ids.png")
    assert sorted(layouts(store)) == ["a", "b"]


def test_palettes_for_show_do_not_matter(tmp_path):
    indices = np.arange(5, dtype=np.uint8)[None].repeat(5, 0)
    palette_png(tmp_path / "p.png", indices, [(200, 0, i) for i in range(5)])
    np.testing.assert_array_equal(read_label(tmp_path / "p.png", space_of(5)), indices)


def test_a_palette_of_the_tables_colours_alone(tmp_path):
    """Indices that aren't ids of the table: the colours count. And without raw ids they always do."""
    indices = np.arange(5, dtype=np.uint8)[None].repeat(5, 0)
    shown = space_of(5).colours[::-1]
    palette_png(tmp_path / "p.png", indices, shown)
    np.testing.assert_array_equal(read_label(tmp_path / "p.png", space_of(5, first_raw_id=100)), 4 - indices)
    table = space_of(5).to_dict()
    for entry in table["classes"]:
        del entry["raw_ids"]
    np.testing.assert_array_equal(read_label(tmp_path / "p.png", LabelSpace.from_dict(table)), 4 - indices)


def test_greyscale_shrunk_to_a_palette_is_refused(tmp_path):
    palette_png(tmp_path / "p.png", np.eye(3, dtype=np.uint8), [(3, 3, 3), (1, 1, 1)])
    with pytest.raises(UserError, match="p.png: a palette"):
        read_label(tmp_path / "p.png", space_of(5))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_fewer_bits(tmp_path, bits):
    """Pillow writes no 2-bit greyscale, so the file is put together here: one row of 8 pixels after a filter byte 0."""
    ids = np.arange(8) % 2**bits
    packed = np.packbits(((ids[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(-1))
    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + packed.tobytes())), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", space_of(16)), ids[None])


def refuse(capsys, root, *words, images="images", labels="labels", flags=()):
    arguments = ["folder", "--images", str(root / images), "--labels", str(root / labels), *SIZE, *flags]
    expect_refusal(capsys, arguments, root / "s", *words)


def test_one_pair(tmp_path, capsys):
    build_folder(tmp_path, ["a"])
    refuse(capsys, tmp_path, "1 pair alone", "training and validation need one each; add pictures")


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_labels_in_a_format_that_changes_ids(tmp_path, capsys, suffix, all_of_them):
    build_folder(tmp_path, ["a", "b", "c"])
    for path in sorted((tmp_path / "labels").iterdir())[: 3 if all_of_them else 1]:
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    refuse(capsys, tmp_path, f"labels/a{suffix}: a label in a format that changes ids; save labels as 8-bit")


def test_what_is_there_instead(tmp_path, capsys):
    build_folder(tmp_path, ["a", "b"])
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(".heic"))
    refuse(capsys, tmp_path, "images: no *.jpg,", "files in it, but *.heic; give the directory")


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".tiff"])
def test_labels_in_other_formats_that_keep_ids(tmp_path, suffix):
    content = build_folder(tmp_path, ["a", "b", "c"])
    for path in list((tmp_path / "labels").iterdir()):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    for name, layout in layouts(prepare(tmp_path)).items():
        np.testing.assert_array_equal(layout, content[name][1])


def test_grey_ids_saved_as_colours(tmp_path, capsys):
    content = build_folder(tmp_path, ["a", "b"])
    save_png(tmp_path / "labels/a.png", np.repeat(content["a"][1][..., None], 3, 2))
    refuse(capsys, tmp_path, "labels/a.png: colour-coded", "save its grey values as 8-bit greyscale PNG of ids")
    words = "labels/a.png: a label of mode RGB; save its grey values", "not in the label table 'camvid'"
    refuse(capsys, tmp_path, *words, flags=("--labelspace", "camvid"))


def test_names_in_two_unicode_forms_are_pairs(tmp_path):
    """As macOS and a zip made elsewhere write them."""
    names = ["Übergang/gëb", "Übergang/c", "d"]
    content = build_folder(tmp_path, [unicodedata.normalize("NFC", name) for name in names])
    folders = tmp_path / "labels", tmp_path / "old"
    folders[0].rename(folders[1])
    for path in folders[1].rglob("*.png"):
        there = folders[0] / unicodedata.normalize("NFD", str(path.relative_to(folders[1])))
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there)
    for name, layout in layouts(prepare(tmp_path)).items():
        assert name == unicodedata.normalize("NFC", name)
        np.testing.assert_array_equal(layout, content[name][1])


def test_one_name_in_two_unicode_forms_within_a_folder(tmp_path, capsys):
    build_folder(tmp_path, ["a", "\u00e9"])
    shutil.copy(tmp_path / "images/\u00e9.png", tmp_path / "images/e\u0301.png")
    refuse(capsys, tmp_path, "twice there, in two of Unicode's ways to write its name; remove one")


def build_one_folder(root, image_ending, label_ending):
    content = build_folder(root, ["a", "b", "c"], folders=("images", "labels"))
    (root / "all").mkdir()
    for name, (image, labels) in content.items():
        Image.fromarray(image).save(root / f"all/{name}{image_ending}", quality=100)
        Image.fromarray(labels).save(root / f"all/{name}{label_ending}")
    return content


@pytest.mark.parametrize("image_ending, label_ending", [(".jpg", ".png"), (".png", "_mask.png"), ("_rgb.png", ".png")])
def test_images_and_labels_in_one_folder(tmp_path, capsys, image_ending, label_ending):
    content = build_one_folder(tmp_path, image_ending, label_ending)
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(tmp_path / "labels")
    refuse(capsys, tmp_path, "all: is --images and --labels, and a", "--image_ending .jpg --label_ending .png",
           images="all", labels="all")  # fmt: skip
    (tmp_path / "images").symlink_to(tmp_path / "all")
    (tmp_path / "labels").symlink_to(tmp_path / "all")
    ways = [("--image_ending", image_ending, "--label_ending", label_ending)]
    ways += [("--label_ending", label_ending)] if label_ending != ".png" or image_ending == ".jpg" else []
    ways += [("--image_ending", image_ending)] if image_ending != ".png" else []
    for flags in ways:
        found = layouts(prepare(tmp_path, *flags))
        shutil.rmtree(tmp_path / "s")
        assert sorted(found) == ["a", "b", "c"], flags
        for name, layout in found.items():
            np.testing.assert_array_equal(layout, content[name][1])


@pytest.mark.parametrize("outer, inner", [("images", "labels"), ("labels", "images")])
def test_one_folder_within_the_other(tmp_path, outer, inner):
    content = build_folder(tmp_path, ["a", "x/b", "c"])
    (tmp_path / inner).rename(tmp_path / outer / "the others")
    (tmp_path / inner).symlink_to(tmp_path / outer / "the others")
    for name, layout in layouts(prepare(tmp_path)).items():
        np.testing.assert_array_equal(layout, content[name][1])


def discs(ids, size=64):
    """Discs and squares of these ids."""
    rng = np.random.default_rng(ids)
    labels, (y, x) = np.full((size, size), ids[0], np.uint8), np.mgrid[:size, :size]
    for k in range(12):
        down, right = abs(y - rng.integers(size)), abs(x - rng.integers(size))
        radius = rng.integers(3, size // 3)
        labels[(down**2 + right**2 < radius**2) if k % 2 else np.maximum(down, right) < radius] = ids[k % len(ids)]
    return labels


def saved_as_jpeg(labels, quality):
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(labels):
    return np.asarray(Image.fromarray(labels).resize((50, 50), Image.Resampling.BILINEAR))


SPOILED = {
    "jpeg 75": lambda labels: saved_as_jpeg(labels, 75),
    "jpeg 95": lambda labels: saved_as_jpeg(labels, 95),
    "resized": resized,
}


def test_parts_of_shapes_by_brute_force():
    ids = np.random.default_rng(0).integers(0, 3, (9, 11), dtype=np.uint8)
    pixels, in_shapes = np.zeros(256, int), np.zeros(256, int)
    shapes = [[(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (0, 1), (0, 2)], [(0, 0), (1, 0), (2, 0)]]
    for y, x in np.ndindex(ids.shape):
        part = False
        for shape in shapes:
            for dy, dx in shape:  # the shape with this pixel at that place of it
                places = [(y - dy + a, x - dx + b) for a, b in shape]
                inside = all(0 <= p < 9 and 0 <= q < 11 for p, q in places)
                part = part or (inside and all(ids[place] == ids[y, x] for place in places))
        pixels[ids[y, x]] += 1
        in_shapes[ids[y, x]] += part
    np.testing.assert_array_equal(count_ids(ids), [pixels, in_shapes])


@pytest.mark.parametrize("height", [32, 64])
def test_thin_and_rare_classes_are_classes(height):
    assert scattered_ids(sum(count_ids(draw(i, height, 2 * height)[1]) for i in range(8))) == []


def write(root, labels):
    rng = np.random.default_rng(0)
    for k, ids in enumerate(labels):
        save_png(root / f"labels/{k}.png", ids)
        save_png(root / f"images/{k}.png", rng.integers(0, 256, (*ids.shape, 3), dtype=np.uint8))


def run_doctor(capsys, *arguments):
    try:
        doctor([*map(str, arguments), "--workers", "1"])
        status = 0
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("ids", [(0, 10, 20), (0, 85, 170, 255), (1, 2, 3, 50)])
def test_the_doctor_says_so(tmp_path, capsys, case, ids):
    write(tmp_path, [SPOILED[case](discs(ids)) for _ in range(3)])
    status, lines = run_doctor(capsys, "--images", tmp_path / "images", "--labels", tmp_path / "labels")
    assert status == 1 and any("ids have single scattered pixels" in line and "JPEG" in line for line in lines)
    store = prepare(tmp_path, "--height", "64", "--width", "64")
    assert "note: " in capsys.readouterr().err and store.label_space.num_classes > len(ids)
    status, lines = run_doctor(capsys, tmp_path / "s")
    assert status == 1 and any("ids that are no classes (1)" in line for line in lines)


def test_sound_labels_are_ok(tmp_path, capsys):
    write(tmp_path, [discs((0, 10, 20)) for _ in range(3)])
    status, lines = run_doctor(capsys, "--images", tmp_path / "images", "--labels", tmp_path / "labels")
    assert status == 0 and lines[-1] == "ok"


def test_what_the_doctor_proposes_mends_it(tmp_path, capsys):
    """A table of the true ids with "unlisted": "ignored" gives back most of what JPEG took."""
    labels = discs((0, 85, 170, 255))
    write(tmp_path, [saved_as_jpeg(labels, 90), saved_as_jpeg(labels[::-1], 90)])
    classes = [{"train_id": k, "name": f"{i}", "raw_ids": [i]} for k, i in enumerate((0, 85, 170, 255))]
    (tmp_path / "t.json").write_text(json.dumps({"name": "t", "unlisted": "ignored", "classes": classes}))
    store = prepare(tmp_path, "--height", "64", "--width", "64", "--labelspace", str(tmp_path / "t.json"))
    found = {name: split.layout(i) for split in store.splits.values() for i, name in enumerate(split.names)}
    assert (found["0"] == labels // 85).mean() > 0.95 and (found["1"] == labels[::-1] // 85).mean() > 0.95
