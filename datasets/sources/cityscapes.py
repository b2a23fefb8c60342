"""Cityscapes in its two forms: 5K, the finely labelled frames, and 25K, with extra ones labelled by a network."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.files import read_image, read_label, read_label_pixels
from datasets.labels import LabelSpace, load_space
from datasets.packing import Entry, Item, Plan, Source
from datasets.pairs import (
    check_equal_sizes,
    find_directory,
    find_files,
    load_pair,
    need_directory,
    note_counts,
    pair_items,
    pair_up,
    resize_image,
    resize_labels,
)

FINE = """Cityscapes-5K: 2975 / 500 finely labelled frames of 2048x1024, the 35 original classes.

Taken from the official folders `leftImg8bit/{train,val}/CITY` and `gtFine/{train,val}/CITY`, also with the zip's own
top folder in between (`leftImg8bit_trainvaltest/leftImg8bit/train`).
"""
WITH_EXTRA = """Cityscapes-25K: the 2975 fine frames (7 times as often) and 19997 extra ones, 19 classes + unknown.

Labels come from a DRN-D-105 for all frames: `gtFine_new/{train,val}/CITY/*_gtFine_labelIds.png` and, for
`leftImg8bit_trainextra/leftImg8bit/train_extra/CITY`, `drn_d_105_000_test/**/FRAME*.png`. Images also with the zip's
own top folder in between.
"""
IMAGE_ENDING = "_leftImg8bit.png"
LABEL_ENDING = "_gtFine_labelIds.png"


def add_arguments(parser):
    parser.add_argument("--source", required=True, help="folder with leftImg8bit and gtFine")
    parser.set_defaults(height=256, aspect=2)


def plan(args) -> Plan:
    splits = {
        split: pair_items(
            need_directory(args.source, f"leftImg8bit/{split}"),
            need_directory(args.source, f"gtFine/{split}"),
            args.height,
            args.width,
            (IMAGE_ENDING,),
            (LABEL_ENDING,),
        )
        for split in ("train", "val")
    }
    note_counts(splits, {"train": 2975, "val": 500})
    space = load_space("cityscapes")
    return Plan("cityscapes", space, args.height, args.width, "val", splits, functools.partial(load_pair, space=space))


# --- Cityscapes-25K ---

FINE_WEIGHT = 7
FRAME = re.compile(r"[^/]+_\d{6}_\d{6}")
UNUSABLE = "troisdorf_000000_000073"  # the archive of extra images ships this one black
EXTRA_LABELS = "drn_d_105_000_test"


def add_arguments_25k(parser):
    parser.add_argument("--source", required=True, help="folder with leftImg8bit, gtFine_new and the extra frames")
    parser.add_argument(
        "--label_ids",
        choices=("raw", "train"),
        help="whether label files hold Cityscapes' raw ids or train ids 0..18 (default: seen from the files)",
    )
    parser.set_defaults(height=256, aspect=2)


def plan_25k(args) -> Plan:
    if args.width != 2 * args.height:
        raise UserError(f"--width {args.width}: extra frames are cropped to 2:1; use {2 * args.height}")
    fine = {split: _fine_items(args, split) for split in ("train", "val")}
    extra = _extra_items(args)
    note_counts({"train": fine["train"] + extra, "val": fine["val"]}, {"train": 2975 + 19997, "val": 500})
    spaces = {
        kind: space_of_files([item.source[1] for item in items], args.label_ids)
        for kind, items in (("fine", fine["train"] + fine["val"]), ("extra", extra))
    }
    splits = {"train": fine["train"] + extra, "val": fine["val"]}
    load = functools.partial(load_frame, spaces=spaces)
    return Plan("cityscapes_25k", load_space("cityscapes_25k"), args.height, args.width, "val", splits, load)


def load_frame(item: Item, spaces: dict[str, LabelSpace]) -> tuple[np.ndarray, np.ndarray]:
    """image uint8 [h,w,3], train ids uint8 [h,w]"""
    image_path, label_path, kind = item.source
    image, labels = read_image(image_path), read_label(label_path, spaces[kind])
    check_equal_sizes(image, labels, image_path, label_path)
    height, width = labels.shape
    if width != 2 * height:
        raise UserError(f"{image_path}: {width}x{height} pixels; frames of Cityscapes are 2:1; replace it")
    box = (0, 0, width, height)
    if kind == "extra":
        # Without the car's bonnet and still 2:1: x 256..1792, y 0..768 of 2048x1024.
        box = (width // 8, 0, width - width // 8, 3 * height // 4)
    size = (item.entry.height, item.entry.width)
    return resize_image(image, box, *size), resize_labels(labels, box, *size)


def space_of_files(paths: list[Path], label_ids: str | None) -> LabelSpace:
    """The table that reads these files. Networks write train ids 0..18 as readily as raw ids, under the same names, and
    each passes for the other; but no street is without vegetation, sky and cars, whose raw ids are above 19."""
    raw = load_space("cityscapes_25k")
    step = max(1, len(paths) // 20)
    seen = set() if label_ids else set(np.concatenate([_ids_in(path) for path in paths[::step]]).tolist())
    only_train_ids = seen <= {*range(20), 255} and any(not raw.classes_of_id(i) for i in seen)
    if label_ids == "train" or (label_ids is None and only_train_ids):
        print(
            f"note: labels like {paths[0]} hold train ids 0..18, read as such (--label_ids raw if not)", file=sys.stderr
        )
        classes = tuple(dataclasses.replace(c, raw_ids=(c.train_id,)) for c in raw.classes[:-1])
        unknown = dataclasses.replace(raw.classes[-1], raw_ids=(19, 255))
        return LabelSpace(raw.name, (*classes, unknown))
    return raw


def _ids_in(path: Path) -> np.ndarray:
    pixels, _ = read_label_pixels(path)
    return np.unique(pixels)


def _fine_items(args, split: str) -> list[Item]:
    images = need_directory(args.source, f"leftImg8bit/{split}")
    labels = need_directory(args.source, f"gtFine_new/{split}")
    weight = FINE_WEIGHT if split == "train" else 1
    items = pair_items(images, labels, args.height, args.width, (IMAGE_ENDING,), (LABEL_ENDING,), weight)
    return [dataclasses.replace(item, source=(*item.source, "fine")) for item in items]


def _extra_items(args) -> list[Item]:
    # By the zip's own folder first: the network may have laid its labels in folders of the same names.
    own_folder = find_directory(args.source, "leftImg8bit_trainextra/leftImg8bit/train_extra")
    images = find_files(own_folder or need_directory(args.source, "leftImg8bit/train_extra"), (IMAGE_ENDING,))
    labels = find_files(need_directory(args.source, EXTRA_LABELS), (".png",))
    pairs = pair_up(_by_frame(images), _by_frame(labels))
    return [Item(Entry(name, args.height, args.width), (image, label, "extra")) for name, image, label in pairs]


def _by_frame(files: dict[str, Path]) -> dict[str, Path]:
    """Frame (CITY_SEQUENCE_FRAME) -> path, wherever the file lies below its folder and whatever its name ends with"""
    frames: dict[str, Path] = {}
    for path in files.values():
        match = FRAME.match(path.name)
        if match is None:
            raise UserError(f"{path}: not named CITY_000000_000000*.png; rename it or move it away")
        if match[0] in frames:
            raise UserError(f"{path}: a second file of frame {match[0]}, beside {frames[match[0]]}; remove one")
        frames[match[0]] = path
    frames.pop(UNUSABLE, None)
    return frames


SOURCE = Source(FINE, add_arguments, plan)
SOURCE_25K = Source(WITH_EXTRA, add_arguments_25k, plan_25k)
