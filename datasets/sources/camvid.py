"""CamVid in the SegNet split (367 / 101 / 233 frames of 480x360, ids 0..10 and 11 = void, which stays a class).

Taken as `images/train, labels/train, ...`, as `train/images, train/labels, ...`, or as in the SegNet tutorial,
`train, trainannot, ...`, also with folders in between. Frames are cropped to the centre, 480x240 for 2:1. Validation
is one clip of 6.7 seconds, so scores are measured against the training split.
"""

from __future__ import annotations

import functools
from pathlib import Path

from datasets.errors import UserError
from datasets.labels import load_space
from datasets.packing import Plan, Source
from datasets.pairs import find_directory, is_directory, load_pair, note_counts, pair_items


def add_arguments(parser):
    parser.add_argument("--source", required=True, help="folder with images/{train,val} and labels/{train,val}")
    parser.set_defaults(height=64, aspect=2)


def plan(args) -> Plan:
    splits = {}
    for split in ("train", "val", "test"):
        folders = _folders(args.source, split)
        if folders:
            splits[split] = pair_items(*folders, args.height, args.width)
        elif split != "test":  # published, but not needed here
            raise UserError(
                f"--source {args.source}: no images/{split} with labels/{split} and no {split} with {split}annot; "
                "give the folder that holds them"
            )
    note_counts(splits, {"train": 367, "val": 101})
    space = load_space("camvid")
    load = functools.partial(load_pair, space=space)
    return Plan("camvid", space, args.height, args.width, "train", splits, load)


def _folders(source: str, split: str) -> tuple[Path, Path] | None:
    """(images, labels), however they lie side by side"""
    arrangements = (
        (f"images/{split}", f"labels/{split}"),
        (f"{split}/images", f"{split}/labels"),
        (split, f"{split}annot"),
        (split, f"{split}_labels"),
    )
    for images, labels in arrangements:
        found = find_directory(source, labels)
        if found and is_directory(found.parents[labels.count("/")] / images):
            return found.parents[labels.count("/")] / images, found
    return None


SOURCE = Source(__doc__, add_arguments, plan)
