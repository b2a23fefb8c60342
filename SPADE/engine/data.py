"""What the programs ask of a packed store beside training batches."""

import hashlib
import json

import torch

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
    """Of what a split holds and how often each image is drawn: a run is continued on the same data only."""
    return hashlib.sha256(json.dumps([split.names, split.weights, split.crc32]).encode()).hexdigest()[:16]


def reference_layouts(store, height: int, num: int, split: str | None = None) -> torch.Tensor:
    """Real layouts that scores compare with (or of another split), uint8 [min(num, n),1,height,aspect*height]."""
    split = store[split or store.reference]
    return layouts_in_order(split, 0, min(num, len(split)), height)


def spread_pairs(split, num: int):
    """`num` pairs spread over the split, to look at: neighbours of a video look alike."""
    picks = [in_order(split, i, i + 1) for i in range(0, len(split), max(1, len(split) // num))][:num]
    return torch.cat([images for images, _ in picks]), torch.cat([labels for _, labels in picks])
