import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.packed import open_store
from datasets.prepare import main
from tests.datasets.builders import build_camvid


def prepare(source, out, *flags):
    main(["camvid", "--source", str(source), "--out", str(out), *flags])
    return open_store(out)


def test_centre_bicubic_images_and_nearest_labels(tmp_path):
    content = build_camvid(tmp_path / "camvid", height=24, width=32)
    store = prepare(tmp_path / "camvid", tmp_path / "s", "--height", "8", "--width", "16", "--workers", "1")
    assert (store.name, store.reference, store.label_space.num_classes) == ("camvid", "train", 12)
    for (split, name), (image, labels) in content.items():
        i = store[split].names.index(name)
        middle = Image.fromarray(image[4:20])  # 2:1
        expected = np.asarray(middle.resize((16, 8), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        np.testing.assert_array_equal(store[split].image(i), expected)
        np.testing.assert_array_equal(store[split].layout(i), labels[4:20][1::2, 1::2])  # the pixel under each centre


@pytest.mark.parametrize("images, labels", [("{}", "{}annot"), ("{}/images", "{}/labels"), ("top/{}", "top/{}_labels")])
def test_other_arrangements(tmp_path, images, labels):
    build_camvid(tmp_path / "ours")
    shutil.copytree(tmp_path / "ours", tmp_path / "moved")
    for split in ("train", "val"):
        for kind, place in (("images", images), ("labels", labels)):
            to = tmp_path / "theirs" / place.format(split)
            to.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "moved" / kind / split).rename(to)
    size = ("--height", "8", "--width", "16", "--workers", "1")
    prepare(tmp_path / "ours", tmp_path / "a", *size)
    prepare(tmp_path / "theirs", tmp_path / "b", *size)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_width_follows_height(tmp_path):
    build_camvid(tmp_path / "camvid")
    store = prepare(tmp_path / "camvid", tmp_path / "s", "--height", "16", "--workers", "1")
    assert (store.height, store.width, store.aspect) == (16, 32, 2)


def test_processes_do_not_change_bytes(tmp_path):
    build_camvid(tmp_path / "camvid", names=[f"n{i}" for i in range(20)])
    for workers in ("1", "3"):
        prepare(tmp_path / "camvid", tmp_path / workers, "--height", "8", "--width", "8", "--workers", workers)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()
