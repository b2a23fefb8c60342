"""toy_street as a data set: scene i of a split is drawn from its own seed, nothing is downloaded."""

from functools import partial

from datasets.errors import UserError
from datasets.labels import load_space
from datasets.packing import Item, Plan
from datasets.sources.toy_street import WEATHERS, draw
from datasets.writing import Entry

VAL_SEEDS = 1 << 32  # the validation scenes' seeds start here: no number of training scenes reaches them


def add_arguments(parser):
    parser.add_argument("--num_train", type=int, default=1000, help="training scenes (default 1000)")
    parser.add_argument("--num_val", type=int, default=200, help="validation scenes (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="first scene's seed; another one gives other scenes")
    parser.add_argument("--weather", choices=WEATHERS, help="of every scene (default: all kinds, by their shares)")
    parser.set_defaults(height=64, aspect=2)


def plan(args) -> Plan:
    for flag in ("num_train", "num_val"):
        count = getattr(args, flag)
        if not 1 <= count < VAL_SEEDS:
            raise UserError(f"--{flag} {count}: no number of scenes; give a whole number from 1 on")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: negative; give a whole number from 0 on")
    splits = {
        "train": _scenes("train", args.num_train, args),
        "val": _scenes("val", args.num_val, args),
    }
    return Plan(
        "toy_street",
        load_space("toy_street"),
        args.height,
        args.width,
        "val",
        splits,
        partial(load_scene, weather=args.weather),
    )


def load_scene(item: Item, weather: str | None):
    """image uint8 [h,w,3], train ids uint8 [h,w]"""
    return draw(item.source, item.entry.height, item.entry.width, weather)


def _scenes(split: str, count: int, args) -> list[Item]:
    first = args.seed * 2 * VAL_SEEDS + (VAL_SEEDS if split == "val" else 0)
    return [Item(Entry(f"{split}_{i:06d}", args.height, args.width), first + i) for i in range(count)]
