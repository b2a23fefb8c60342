"""python -m datasets.prepare NAME ... --out STORE: checks, remaps, crops and resizes a data set into a packed store.

Examples:
    python -m datasets.prepare camvid --source ~/data/camvid --out packed/camvid
    python -m datasets.prepare folder --images photos --labels masks --labelspace classes.json --out packed/mine
"""

import argparse
import signal
import sys
from pathlib import Path

from datasets.errors import Parser, UserError, exit_on_user_error
from datasets.packing import available_cores, check_size, pack
from datasets.sources import ade_indoor, camvid, cityscapes, folder, subset, toy_street

SOURCES = {
    "ade_indoor": ade_indoor.SOURCE,
    "camvid": camvid.SOURCE,
    "cityscapes": cityscapes.SOURCE,
    "cityscapes_25k": cityscapes.SOURCE_25K,
    "folder": folder.SOURCE,
    "subset": subset.SOURCE,
    "toy_street": toy_street.SOURCE,
}


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


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, exit_on_signal)
    signal.signal(signal.SIGINT, exit_on_signal)
    main()
