"""What the tests of this room build: small stores and folders of pictures."""

import numpy as np
from PIL import Image

from datasets.labels import LabelClass, LabelSpace
from datasets.packed import open_store
from datasets.packing import Entry, StoreWriter


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


def build_cityscapes(root, frames=("aachen/aachen_000000_000019", "bochum/bochum_000001_000313"), top=""):
    """The official folders, `top` in between, with all files that come along; {(split, frame): (image, ids)}."""
    rng = np.random.default_rng(2)
    content = {}
    for split in ("train", "val"):
        for frame in frames:
            image, _ = random_pair(rng, 32, 64)
            ids = rng.choice([*range(34), 255], (32, 64)).astype(np.uint8)
            save_png(root / f"{top}leftImg8bit/{split}/{frame}_leftImg8bit.png", image)
            annotation = root / f"{top.replace('leftImg8bit', 'gtFine')}gtFine/{split}"
            save_png(annotation / f"{frame}_gtFine_labelIds.png", ids)
            save_png(annotation / f"{frame}_gtFine_instanceIds.png", ids.astype(np.uint16) * 1000)
            save_png(annotation / f"{frame}_gtFine_color.png", np.dstack([image, image[..., :1]]))
            (annotation / f"{frame}_gtFine_polygons.json").write_text("{}")
            content[split, frame] = (image, ids)
    return content


EXTRA_FRAMES = ("bamberg_000000_000026", "bamberg_000000_000223", "ulm_000001_000005")


def build_cityscapes_25k(root, label_values=tuple(range(34))):
    """Fine frames relabelled, and extra frames with one more that has no label, as in the official archive."""
    content = build_cityscapes(root)
    rng = np.random.default_rng(3)
    for split, frame in content:
        ids = rng.choice(label_values, (32, 64)).astype(np.uint8)
        save_png(root / f"gtFine_new/{split}/{frame}_gtFine_labelIds.png", ids)
        content[split, frame] = (content[split, frame][0], ids)
    extra = root / "leftImg8bit_trainextra/leftImg8bit/train_extra"
    for frame in EXTRA_FRAMES:
        image, _ = random_pair(rng, 32, 64)
        ids = rng.choice(label_values, (32, 64)).astype(np.uint8)
        save_png(extra / frame.split("_")[0] / f"{frame}_leftImg8bit.png", image)
        save_png(root / "drn_d_105_000_test" / f"{frame}_leftImg8bit.png", ids)
        content["extra", frame] = (image, ids)
    save_png(extra / "troisdorf" / "troisdorf_000000_000073_leftImg8bit.png", np.zeros((32, 64, 3), np.uint8))
    return content


def save_jpeg(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, quality=95)


def build_ade_authors(root, top=""):
    """The authors' archive: images and labels of one room may differ in size."""
    rng = np.random.default_rng(4)
    sizes = {"bedroom": ((40, 60), (40, 60)), "kitchen": ((60, 30), (120, 60)), "office": ((100, 100), (50, 50))}
    content = {}
    for split, kind in (("train", ""), ("val", "val_")):
        for number, (scene, (image_size, label_size)) in enumerate(sizes.items()):
            name = f"{scene}/ADE_{split}_{number:08d}"
            image, _ = random_pair(rng, *image_size)
            ids = rng.integers(0, 95, label_size, dtype=np.uint8)
            save_jpeg(root / f"{top}ADE15c_indoor_{kind}img/{name}.jpg", image)
            save_png(root / f"{top}ADE15c_indoor_{kind}lbl/{name}.png", ids)
            content[split, name] = (image, ids)
    return content


def build_ade_challenge(root):
    """The official release: rooms and one street, classes 1..150 and 0; returns the training label arrays of rooms."""
    rng = np.random.default_rng(5)
    release, scenes, rooms = root / "ADEChallengeData2016", [], []
    for split, short in (("training", "train"), ("validation", "val")):
        for number, scene in enumerate(["bathroom", "street", "corridor", "bathroom"]):
            name = f"ADE_{short}_{number:08d}"
            scenes.append(f"{name} {scene}")
            image, _ = random_pair(rng, 40, 50)
            ids = np.minimum(rng.geometric(0.02, (40, 50)), 150).astype(np.uint8) - (rng.random((40, 50)) < 0.1)
            save_jpeg(release / f"images/{split}/{name}.jpg", image)
            save_png(release / f"annotations/{split}/{name}.png", ids.astype(np.uint8))
            if split == "training" and scene != "street":
                rooms.append(ids)
    (release / "sceneCategories.txt").write_text("\n".join(scenes) + "\n")
    names = [f"{i}\t0.1\t10\t1\tthing{i % 140}, other" for i in range(1, 151)]
    (release / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *names]) + "\n")
    return rooms
