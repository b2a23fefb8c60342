"""What the programs ask of a packed store beside training batches, and whether it is a checkpoint's."""

import hashlib
import json
from pathlib import Path

import torch

from datasets.errors import UserError
from datasets.packed import Store, open_store
from datasets.reader import in_order, layouts_in_order


def data_record(store) -> dict:
    """What a checkpoint says of its data set: enough to name classes, colour layouts and to refuse other data."""
    return {
        "name": store.name,
        "label_space": store.label_space.to_dict(),
        "label_space_hash": store.label_space.hash,
        "height": store.height,
        "width": store.width,
        "aspect": store.aspect,
        "training_images": content_hash(store["train"]),
    }


def content_hash(split) -> str:
    """Hash of what a split holds and how often each image is drawn: a run is continued on the same data only."""
    return hashlib.sha256(json.dumps([split.names, split.weights, split.crc32]).encode()).hexdigest()[:16]


def reference_layouts(store, height: int, num: int, split: str | None = None) -> torch.Tensor:
    """Real layouts that scores compare with (or of another split), uint8 [min(num, n),1,height,aspect*height]."""
    split = store[split or store.reference]
    return layouts_in_order(split, 0, min(num, len(split)), height)


def spread_pairs(split, num: int):
    """`num` pairs spread over the split, to look at: neighbours of a video look alike."""
    picks = [in_order(split, i, i + 1) for i in range(0, len(split), max(1, len(split) // num))][:num]
    return torch.cat([images for images, _ in picks]), torch.cat([labels for _, labels in picks])


def stored_data(content: dict, path: Path, store_path: str | None) -> Store:
    """The store that is named, else the one that the checkpoint was trained on; checked to fit the checkpoint."""
    where = store_path or content.get("config", {}).get("store")
    if where is None:
        raise UserError(f"{path} doesn't say what data it was trained on; pass --store, a packed store of that data")
    store = open_store(where)
    check_store(content["data"], path, store, where)
    return store


def check_store(data: dict, path: Path, store, store_path):
    """A checkpoint and the data that it is to be trained on or scored against. Raises UserError."""
    if data["name"] != store.name:
        raise UserError(
            f"--store {store_path} is {store.name}, but {path} was trained on {data['name']}; "
            "pass the store of that data set"
        )
    wanted = {"label_space_hash": store.label_space.hash, "label_space": store.label_space.to_dict()}
    check_label_space(data, path, wanted, f"--store {store_path}")
    if (data["height"], data["width"]) != (store.height, store.width):
        raise UserError(
            f"--store {store_path} has images of {store.height}x{store.width}, but {path} was trained on "
            f"{data['height']}x{data['width']}; prepare a store of that size, or train again"
        )


def check_label_space(a: dict, a_path, b: dict, b_name: str):
    """The data of two checkpoints, or of one and a store. Raises UserError."""
    if a["label_space_hash"] != b["label_space_hash"]:
        counts = [len(data["label_space"]["classes"]) for data in (a, b)]
        raise UserError(
            f"{a_path} has {counts[0]} classes and {b_name} has {counts[1]}, or other ones; "
            "train both stages on one label space"
        )
