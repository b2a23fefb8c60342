"""What the tests of this room build: small stores and folders of pictures."""

import numpy as np
from PIL import Image

from datasets.labels import LabelClass, LabelSpace
from datasets.packed import open_store
from datasets.writing import Entry, StoreWriter


def space_of(num_classes, unlisted="error", first_raw_id=0):
    classes = [LabelClass(i, f"class{i}", (10 * i, 255 - 10 * i, 7), (first_raw_id + i,)) for i in range(num_classes)]
    return LabelSpace("test", tuple(classes), unlisted)


def random_pair(rng, height, width, num_classes=5):
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, num_classes, (height, width), dtype=np.uint8)


def build_store(path, sizes, height, width, weights=None, num_classes=5):
    """One split 'train' (and the same as 'val') with random content; returns (store, list of (image, labels))."""
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng, h, w, num_classes) for h, w in sizes]
    weights = weights or [1] * len(sizes)
    entries = [Entry(f"pair{i}", h, w, weights[i]) for i, (h, w) in enumerate(sizes)]
    splits = {"train": entries, "val": entries}
    with StoreWriter(path, "random", space_of(num_classes), height, width, "val", splits) as writer:
        for split in splits:
            for i, (image, labels) in enumerate(pairs):
                writer.write(split, i, image, labels)
    return open_store(path), pairs


def save_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def build_camvid(root, height=24, width=32, names=("a", "b", "c")):
    """A folder like CamVid's with small random pictures; returns {(split, name): (image, raw ids)}."""
    rng = np.random.default_rng(1)
    content = {}
    for split in ("train", "val"):
        for name in names:
            image, labels = random_pair(rng, height, width, 12)
            save_png(root / "images" / split / f"{name}.png", image)
            save_png(root / "labels" / split / f"{name}.png", labels)
            content[split, name] = (image, labels)
    return content
