"""Cityscapes-5K: 2975 / 500 finely labelled frames of 2048x1024, the 35 original classes.

Taken from the official folders `leftImg8bit/{train,val}/CITY` and `gtFine/{train,val}/CITY`, also with the zip's own
top folder in between (`leftImg8bit_trainvaltest/leftImg8bit/train`).
"""

import functools

from datasets.labels import load_space
from datasets.packing import Plan
from datasets.pairs import load_pair, need_directory, note_counts, pair_items

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
