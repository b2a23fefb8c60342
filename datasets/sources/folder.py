"""Your own pictures: a folder of images and a folder of labels with the same names, no code to edit.

Both may have subfolders; where there are `train` and `val` (and `test`), those are the splits, else some of the pairs
are set aside for validation. Pictures are cropped to the centre in the proportions of --height and --width.

Labels are 8-bit PNGs (or BMPs, or TIFFs) of ids; without a table, every id that occurs is a class. A table gives names
and colours, maps raw ids to classes, and makes any other id an error (or, with "unlisted": 0, a class). Classes without
raw_ids are known by their colour, for colour-coded labels:

    {"name": "mine", "unlisted": "error", "classes": [
      {"train_id": 0, "name": "sky", "colour": [70, 130, 180], "raw_ids": [0]},
      {"train_id": 1, "name": "road", "colour": [128, 64, 128], "raw_ids": [7, 8]}]}

Ids that are no class, as borders or what nobody labelled: --ignore 255, or "ignored": [255] in the table (also colours,
[224, 224, 192]), or "unlisted": "ignored" for all that it does not name. Such a pixel takes the class of the nearest
pixel that has one, so that networks and scores know only the classes; pairs of which more than --most_ignored is
ignored are left out.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, read_classes, read_raw_ids
from datasets.labels import LabelSpace, load_space, space_of_ids
from datasets.packing import Item, Plan, Source, in_parallel
from datasets.pairs import is_directory, load_pair, pair_items

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
    """Adds the flags that say which files are pairs and what they mean; the doctor asks the same."""
    parser.add_argument("--images", required=required, help="folder of images")
    parser.add_argument("--labels", required=required, help="folder of labels: ids, or colours of the table")
    parser.add_argument("--labelspace", help="table of classes: a JSON file, or the name of one in datasets/spaces")
    parser.add_argument(
        "--palette",
        choices=("ids", "colours"),
        help="what counts in label PNGs with a palette (default: seen from table and file)",
    )
    parser.add_argument("--image_ending", help="what image names end with, as _leftImg8bit.png (default: any suffix)")
    parser.add_argument(
        "--label_ending", help="what label names end with, as _gtFine_labelIds.png (default: .png, ...)"
    )
    parser.add_argument("--ignore", default="", help="ids that are no class, as 255 or 0,255: see above")
    parser.add_argument(
        "--most_ignored",
        type=float,
        default=0.5,
        help="pairs with a larger share of such ids are left out (default 0.5)",
    )


def endings(args) -> tuple[tuple[str, ...], tuple[str, ...]]:
    image_endings = (args.image_ending,) if args.image_ending else IMAGE_SUFFIXES
    return image_endings, (args.label_ending,) if args.label_ending else LABEL_SUFFIXES


def ignored_ids(args) -> tuple[int, ...]:
    """Reads --ignore, after a look at --most_ignored."""
    if not 0 <= args.most_ignored <= 1:
        raise UserError(f"--most_ignored {args.most_ignored}: no share; use a number from 0 to 1")
    words = [word.strip() for word in args.ignore.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) < 256 for word in words):
        raise UserError(f"--ignore {args.ignore}: not ids; give whole numbers from 0 to 255, with commas between")
    return tuple(int(word) for word in words)


def plan(args) -> Plan:
    ignored = ignored_ids(args)
    splits = _split_folders(args) or {"": _items(args, Path(args.images), Path(args.labels))}
    labels = [item.source[1] for items in splits.values() for item in items]
    if args.labelspace:
        space, palette = load_space(args.labelspace).ignoring(ignored, "ignore"), args.palette
        if space.ignores:
            share = functools.partial(ignored_share, space=space, palette=palette)
            shares = list(in_parallel(share, labels, args.workers, "reading labels"))
            splits = _labelled(splits, dict(zip(labels, shares, strict=True)), args.most_ignored)
    else:
        counts = dict(zip(labels, in_parallel(read_counts, labels, args.workers, "reading labels"), strict=True))
        shares = {path: found[0, list(ignored)].sum() / found[0].sum() for path, found in counts.items()}
        splits = _labelled(splits, shares, args.most_ignored)
        kept = [counts[item.source[1]] for items in splits.values() for item in items]
        space, palette = space_as_found(kept, args.name, ignored), "ids"
    if "" in splits:
        splits = _split_by_name(splits[""], args.num_val)
    load = functools.partial(load_pair, space=space, palette=palette)
    return Plan(args.name, space.of_classes, args.height, args.width, "val", splits, load)


def read_counts(path: Path) -> np.ndarray:
    return count_ids(read_raw_ids(path))


def ignored_share(path: Path, space: LabelSpace, palette: str | None) -> float:
    return float(read_classes(path, space, palette)[1].mean())


def space_as_found(counts: list[np.ndarray], name: str, ignored: tuple[int, ...]) -> LabelSpace:
    """One class for each id that occurs in any label, by count_ids of each; says where some look like none."""
    found = sum(counts)
    found[:, list(ignored)] = 0
    doubt = describe_scattered(found)
    if doubt:
        print(f"note: {doubt}", file=sys.stderr)
    return space_of_ids(name, np.flatnonzero(found[0]).tolist(), ignored)


def _labelled(splits: dict[str, list[Item]], shares: dict[Path, float], most: float) -> dict[str, list[Item]]:
    """The pairs of which not too much is ignored; the others are named."""
    kept, left_out = {}, []
    for split, items in splits.items():
        kept[split] = [item for item in items if shares[item.source[1]] <= most and shares[item.source[1]] < 1]
        left_out += [item.entry.name for item in items if item not in kept[split]]
        if not kept[split]:
            raise UserError(
                f"--most_ignored {most}: of every pair{split and ' of ' + split} a larger share is ignored; raise it, "
                "or mend the labels"
            )
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        print(
            f"note: {len(left_out)} pairs are left out, more than {most:g} of each is ignored: "
            f"{', '.join(left_out[:5])}{more}",
            file=sys.stderr,
        )
    return kept


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
    """Splits by a hash of the name, so that pictures added later move those of now as little as counts allow."""
    if len(items) < 2:
        raise UserError("--images: 1 pair alone, and training and validation need one each; add pictures")
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


# --- Ids that are no classes: what is left of labels that were once saved as JPEG, or resized with interpolation ---
#
# Both leave values between and around the ids, in single pixels along the borders of areas. Of a class that somebody
# drew, however thin or rare, most pixels are part of a shape: of a 2x2 square, or of three in a row. In CamVid and in
# toy_street at 32x64 that is 43 % or more of the thinnest class; of what JPEG leaves, some ids are far below a third.

LEAST_IN_SHAPES = 1 / 3


def count_ids(ids: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
    """ids uint8 [H,W] -> int64 [2,256]: how many pixels have each id, and how many of these are part of a shape

    but: pixels that do not count bool [H,W]
    """
    in_shape = np.zeros(ids.shape, bool)
    down, right = ids[1:] == ids[:-1], ids[:, 1:] == ids[:, :-1]  # is the pixel as the one below, the one to the right?
    squares = down[:, 1:] & down[:, :-1] & right[1:] & right[:-1]
    for shape, (height, width) in (
        (squares, (2, 2)),
        (down[1:] & down[:-1], (3, 1)),
        (right[:, 1:] & right[:, :-1], (1, 3)),
    ):
        for y, x in np.ndindex(height, width):
            in_shape[y : y + shape.shape[0], x : x + shape.shape[1]] |= shape
    counted = np.ones(ids.shape, bool) if but is None else ~but
    return np.stack([np.bincount(ids[mask], minlength=256) for mask in (counted, counted & in_shape)])


def scattered_ids(counts: np.ndarray) -> list[int]:
    """The ids that are no classes, by the sum of count_ids over all labels."""
    pixels, in_shapes = counts
    return np.flatnonzero((pixels > 0) & (in_shapes < LEAST_IN_SHAPES * pixels)).tolist()


def describe_scattered(counts: np.ndarray) -> str | None:
    """One sentence about them, if there are some."""
    scattered = scattered_ids(counts)
    if not scattered:
        return None
    rarest = sorted(scattered, key=lambda i: counts[0, i])[:5]
    some = ", ".join(f"{i} ({counts[0, i]} pixels)" for i in rarest)
    return (
        f"{len(scattered)} of {np.count_nonzero(counts[0])} ids have single scattered pixels, as {some}: labels that "
        "were once saved as JPEG or resized with interpolation look so; make them again, or give a table of the true "
        'classes whose "unlisted" is "ignored", which fills such pixels from their neighbours'
    )


SOURCE = Source(__doc__, add_arguments, plan)
