import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.errors import UserError
from datasets.files import read_label
from datasets.labels import LabelSpace
from datasets.packed import open_store
from datasets.prepare import main
from tests.datasets.builders import random_pair, save_png, space_of

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
