"""A share of a packed store's training pairs, as a store of its own: what few labels would have left.

The pairs are spread evenly over the training split, as `python -m SBGAN.train_segmenter --share` takes them, and each
is drawn so many times as often that an epoch is as long as the store's: the same settings then make as many steps. The
other splits are the store's.
"""

from __future__ import annotations

import functools
from pathlib import Path

from datasets.errors import UserError
from datasets.packed import Split, open_store, share_of
from datasets.packing import Entry, Item, Plan, Source


def add_arguments(parser):
    parser.add_argument("--store", required=True, help="the packed store")
    parser.add_argument("--share", type=float, required=True, help="of its training pairs, above 0 and at most 1")
    parser.set_defaults(aspect=None)


def plan(args) -> Plan:
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share:g}: no share; use a number above 0 and at most 1")
    store = open_store(args.store)
    for flag, own in (("height", store.height), ("width", store.width)):
        if getattr(args, flag) not in (None, own):
            raise UserError(f"--{flag} {getattr(args, flag)}: the store has {own}; leave it out")
    splits = {name: share_of(split, args.share if name == "train" else 1) for name, split in store.splits.items()}
    often = {name: round(len(store[name]) / len(split)) for name, split in splits.items()}
    items = {
        name: [
            Item(Entry(split.names[i], *split.size(i), split.weights[i] * often[name]), (name, i))
            for i in range(len(split))
        ]
        for name, split in splits.items()
    }
    load = functools.partial(load_pair, store=Path(args.store), share=args.share)
    return Plan(store.name, store.label_space, store.height, store.width, store.reference, items, load)


def load_pair(item: Item, store: Path, share: float):
    """image uint8 [h,w,3], train ids uint8 [h,w]"""
    split, i = item.source
    pairs = opened(store, split, share if split == "train" else 1)
    return pairs.image(i).transpose(1, 2, 0), pairs.layout(i)


@functools.cache
def opened(store: Path, split: str, share: float) -> Split:
    """Once in each worker."""
    return share_of(open_store(store)[split], share)


SOURCE = Source(__doc__, add_arguments, plan)
