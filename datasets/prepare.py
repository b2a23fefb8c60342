"""python -m datasets.prepare NAME ... --out STORE: checks, remaps, crops and resizes a data set into a packed store.

Examples:
    python -m datasets.prepare camvid --source ~/data/camvid --out packed/camvid
    python -m datasets.prepare folder --images photos --labels masks --labelspace classes.json --out packed/mine
"""

import argparse
import functools
import signal
import sys
from pathlib import Path

from datasets.errors import Parser, UserError, exit_on_user_error
from datasets.packed import Split, open_store, share_of
from datasets.packing import Entry, Item, Plan, Source, available_cores, check_size, pack
from datasets.sources import ade_indoor, camvid, cityscapes, folder, toy_street


def make_parser() -> Parser:
    parser = Parser("python -m datasets.prepare", __doc__)
    names = parser.add_subparsers(dest="dataset", required=True, metavar="NAME")
    for name, source in SOURCES.items():
        own = names.add_parser(name, help=source.description.splitlines()[0], description=source.description)
        own.add_argument("--out", required=True, help="the store to write; must not exist")
        own.add_argument("--height", type=int, help="rows of images and layouts, a power of two from 4")
        own.add_argument("--width", type=int, help="once or twice the height; default the data set's own proportions")
        own.add_argument("--workers", type=int, help="processes, from 1; default all cores")
        source.add_arguments(own)
        own.set_defaults(workers=available_cores())
    return parser


def parse_arguments(argv=None) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    if args.width is None and args.height is not None:  # a subset has its store's size
        args.width = args.aspect * args.height  # of the source, by set_defaults
    return args


@exit_on_user_error
def main(argv=None) -> None:
    args = parse_arguments(argv)
    if args.height is not None:
        check_size(args.height, args.width)
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: no number of processes; use 1 or more")
    plan = SOURCES[args.dataset].plan(args)
    pack(plan, Path(args.out), args.workers)
    counts = ", ".join(f"{len(items)} {split}" for split, items in plan.splits.items())
    print(f"{args.out}: {plan.name} at {plan.height}x{plan.width}, {plan.label_space.num_classes} classes, {counts}")


def exit_on_signal(number, frame) -> None:
    """Ends as by an exception, so that what is half-written is removed on the way out."""
    sys.exit(128 + number)


# --- A share of a store, as a store of its own ---

SUBSET = """A share of a packed store's training pairs, as a store of its own: what few labels would have left.

The pairs are spread evenly over the training split, as `python -m SBGAN.train_segmenter --share` takes them, and each
is drawn so many times as often that an epoch is as long as the store's: the same settings then make as many steps. The
other splits are the store's.
"""


def add_subset_arguments(parser):
    parser.add_argument("--store", required=True, help="the packed store")
    parser.add_argument("--share", type=float, required=True, help="of its training pairs, above 0 and at most 1")
    parser.set_defaults(aspect=None)


def plan_subset(args) -> Plan:
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
    load = functools.partial(load_stored, store=Path(args.store), share=args.share)
    return Plan(store.name, store.label_space, store.height, store.width, store.reference, items, load)


def load_stored(item: Item, store: Path, share: float):
    """image uint8 [h,w,3], train ids uint8 [h,w]"""
    split, i = item.source
    pairs = opened(store, split, share if split == "train" else 1)
    return pairs.image(i).transpose(1, 2, 0), pairs.layout(i)


@functools.cache
def opened(store: Path, split: str, share: float) -> Split:
    """Opens a share of the split, once in each worker."""
    return share_of(open_store(store)[split], share)


SOURCES = {
    "ade_indoor": ade_indoor.SOURCE,
    "camvid": camvid.SOURCE,
    "cityscapes": cityscapes.SOURCE,
    "cityscapes_25k": cityscapes.SOURCE_25K,
    "folder": folder.SOURCE,
    "subset": Source(SUBSET, add_subset_arguments, plan_subset),
    "toy_street": toy_street.SOURCE,
}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, exit_on_signal)
    signal.signal(signal.SIGINT, exit_on_signal)
    main()
