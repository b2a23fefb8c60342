import json

import numpy as np
import pytest
from PIL import Image

from datasets.packed import open_store
from datasets.prepare import main
from tests.datasets.builders import EXTRA_FRAMES, build_cityscapes, build_cityscapes_25k

SIZE = ("--height", "8", "--width", "16", "--workers", "1")
EVALUATED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def bicubic(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


@pytest.mark.parametrize("top", ["", "leftImg8bit_trainvaltest/", "some/folder/"])
def test_official_folders_also_with_the_zips_own_in_between(tmp_path, top, capsys):
    content = build_cityscapes(tmp_path / "source", top=top)
    main(["cityscapes", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "s"), *SIZE])
    assert "note: 2 train images; the published split has 2975" in capsys.readouterr().err
    store = open_store(tmp_path / "s")
    assert (store.name, store.reference, store.label_space.num_classes) == ("cityscapes", "val", 35)
    assert {name: len(split) for name, split in store.splits.items()} == {"train": 2, "val": 2}
    for (split, frame), (image, ids) in content.items():
        i = store[split].names.index(frame)
        np.testing.assert_array_equal(store[split].image(i), bicubic(image, 8, 16))
        np.testing.assert_array_equal(store[split].layout(i), np.where(ids == 255, 34, ids)[2::4, 2::4])


def as_train_ids(raw):
    expected = np.full(raw.shape, 19)
    for train_id, raw_id in enumerate(EVALUATED):
        expected[raw == raw_id] = train_id
    return expected


@pytest.mark.parametrize("labels, flags, expected", [
    (range(34), (), as_train_ids),
    ((*range(19), 255), (), lambda ids: np.where(ids == 255, 19, ids)),  # as networks write them; seen from the files
    ((7, 8, 11), (), as_train_ids),
    ((0, 7, 8, 11), ("--label_ids", "raw"), as_train_ids),
    ((7, 8, 11), ("--label_ids", "train"), lambda ids: ids),
])  # fmt: skip
def test_25k(tmp_path, labels, flags, expected):
    content = build_cityscapes_25k(tmp_path / "source", tuple(labels))
    main(["cityscapes_25k", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "s"), *SIZE, *flags])
    store = open_store(tmp_path / "s")
    train = store["train"]
    assert (store.name, store.reference, store.label_space.num_classes) == ("cityscapes_25k", "val", 20)
    assert train.weights == [7, 7, 1, 1, 1] and train.draws_per_epoch == 17 and store["val"].weights == [1, 1]
    for (split, frame), (image, ids) in content.items():
        part = store["val" if split == "val" else "train"]
        i = part.names.index(frame)
        if split == "extra":  # x 256..1792, y 0..768 of 2048x1024
            image, ids = image[:24, 8:56], ids[:24, 8:56]
            np.testing.assert_array_equal(part.layout(i), expected(ids)[1::3, 1::3])
        else:
            np.testing.assert_array_equal(part.layout(i), expected(ids)[2::4, 2::4])
        np.testing.assert_array_equal(part.image(i), bicubic(image, 8, 16))


def test_25k_weights_are_not_copies(tmp_path):
    build_cityscapes_25k(tmp_path / "source")
    main(["cityscapes_25k", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "s"), *SIZE])
    index = json.loads((tmp_path / "s/index.json").read_text())
    assert len(index["splits"]["train"]["names"]) == 2 + len(EXTRA_FRAMES)
    assert (tmp_path / "s/train.labels.u8").stat().st_size == (2 + len(EXTRA_FRAMES)) * 8 * 16


def test_25k_labels_in_folders_like_those_of_the_images(tmp_path):
    build_cityscapes_25k(tmp_path)
    labels = tmp_path / "drn_d_105_000_test"
    files = list(labels.iterdir())
    for file in files:
        folder = labels / "leftImg8bit/train_extra" / file.name.split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        file.rename(folder / file.name)
    main(["cityscapes_25k", "--source", str(tmp_path), "--out", str(tmp_path / "s"), *SIZE])
    assert len(open_store(tmp_path / "s")["train"]) == 2 + len(files)
