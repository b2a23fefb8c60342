"""Your own pictures: a folder of images and a folder of label PNGs with the same names, no code to edit.

Both may have subfolders; where there are `train` and `val` (and `test`), those are the splits, else some of the pairs
are set aside for validation. Pictures are cropped to the centre in the proportions of --height and --width.

Labels are 8-bit PNGs of ids; without a table, every id that occurs is a class. A table gives names and colours, maps
raw ids to classes, and makes any other id an error (or, with "unlisted": 0, a class). Classes without raw_ids are known
by their colour, for colour-coded labels:

    {"name": "mine", "unlisted": "error", "classes": [
      {"train_id": 0, "name": "sky", "colour": [70, 130, 180], "raw_ids": [0]},
      {"train_id": 1, "name": "road", "colour": [128, 64, 128], "raw_ids": [7, 8]}]}
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, is_directory, read_raw_ids
from datasets.labels import LabelClass, LabelSpace, distinct_colours, load_space
from datasets.packing import Item, Plan, in_parallel
from datasets.sources.pairs import load_pair, pair_items

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def add_arguments(parser):
    add_pair_arguments(parser)
    parser.add_argument("--num_val", type=int, help="pairs set aside for validation (default: a tenth)")
    parser.add_argument("--name", default="folder", help="the data set's name")
    parser.set_defaults(height=256, aspect=1)


def add_pair_arguments(parser, required=True):
    """Which files are pairs and what they mean; the doctor asks the same."""
    parser.add_argument("--images", required=required, help="folder of images")
    parser.add_argument("--labels", required=required, help="folder of label PNGs: ids, or colours of the table")
    parser.add_argument("--labelspace", help="table of classes: a JSON file, or the name of one in datasets/spaces")
    parser.add_argument(
        "--palette",
        choices=("ids", "colours"),
        help="what counts in label PNGs with a palette (default: seen from table and file)",
    )
    parser.add_argument("--image_ending", help="what image names end with, as _leftImg8bit.png (default: any suffix)")
    parser.add_argument("--label_ending", help="what label names end with, as _gtFine_labelIds.png (default: .png)")


def endings(args) -> tuple[tuple[str, ...], tuple[str, ...]]:
    image_endings = (args.image_ending,) if args.image_ending else IMAGE_SUFFIXES
    return image_endings, (args.label_ending,) if args.label_ending else LABEL_SUFFIXES


def plan(args) -> Plan:
    splits = _split_folders(args) or _split_by_name(_items(args, Path(args.images), Path(args.labels)), args.num_val)
    if args.labelspace:
        space, palette = load_space(args.labelspace), args.palette
    else:
        space, palette = space_as_found(splits, args.name, args.workers), "ids"
    load = functools.partial(load_pair, space=space, palette=palette)
    return Plan(args.name, space, args.height, args.width, "val", splits, load)


def space_as_found(splits: dict[str, list[Item]], name: str, workers: int) -> LabelSpace:
    """One class for each id that occurs in any label."""
    paths = [item.source[1] for items in splits.values() for item in items]
    found = sorted(set().union(*in_parallel(ids_in, paths, workers, "reading labels")))
    colours = distinct_colours(len(found))
    classes = [LabelClass(i, f"id_{raw_id}", colours[i], (raw_id,)) for i, raw_id in enumerate(found)]
    return LabelSpace(name, tuple(classes))


def ids_in(path: Path) -> set[int]:
    return set(np.unique(read_raw_ids(path)).tolist())


def _items(args, images: Path, labels: Path) -> list[Item]:
    return pair_items(images, labels, args.height, args.width, *endings(args))


def _split_folders(args) -> dict[str, list[Item]] | None:
    images, labels = Path(args.images), Path(args.labels)
    found = {split: _split_folder(images, split) for split in SPLIT_FOLDERS}
    if not found["train"]:
        return None
    if not found["val"]:
        raise UserError(
            f"{images}: a folder '{found['train']}' and no 'val'; add one, or give {images / found['train']}"
        )
    return {split: _items(args, images / name, labels / name) for split, name in found.items() if name}


def _split_folder(images: Path, split: str) -> str | None:
    """The name of this split's folder, in capitals or not: missing one would mix its pictures into training."""
    try:
        names = [name for name in sorted(os.listdir(images)) if split_of_folder(name) == split]
    except OSError:  # find_files will say what is wrong
        return None
    names = [name for name in names if is_directory(images / name)]
    if len(names) > 1:
        raise UserError(f"{images}: '{names[0]}' and '{names[1]}' are both folders of {split}; remove or join them")
    return names[0] if names else None


def split_of_folder(name: str) -> str | None:
    return next((split for split, names in SPLIT_FOLDERS.items() if name.lower() in names), None)


def _split_by_name(items: list[Item], num_val: int | None) -> dict[str, list[Item]]:
    """By a hash of the name, so that more pictures later leave those of now where they are, as far as counts allow."""
    num_val = max(1, len(items) // 10) if num_val is None else num_val
    if not 0 < num_val < len(items):
        raise UserError(
            f"--num_val {num_val}: there are {len(items)} pairs, and both splits need one at least; "
            f"use a number from 1 to {len(items) - 1}, or add pictures"
        )
    by_hash = sorted(items, key=lambda item: hashlib.sha256(item.entry.name.encode()).digest())
    chosen = {item.entry.name for item in by_hash[:num_val]}
    return {
        "train": [item for item in items if item.entry.name not in chosen],
        "val": [item for item in items if item.entry.name in chosen],
    }
