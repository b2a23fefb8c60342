"""toy_street, the embedded data set: street scenes drawn by a program, each from its seed, at any size.
Nothing is downloaded.

Here it is decided what kind of street, light and view a scene has; the package `street` beside this file draws it.
"""

import math
from functools import partial

import numpy as np

from datasets.errors import UserError
from datasets.labels import load_space
from datasets.packing import Entry, Item, Plan, Source
from datasets.sources.street.canvas import CLASSES, Camera, Canvas, draw_backdrop, draw_ground
from datasets.sources.street.placement import Side, Street, place_things
from datasets.sources.street.shaders import Light

__all__ = ["CLASSES", "draw"]

WEATHERS = {  # zenith, skyline, sun, ambient; visibility (m), lit windows, clouds, wetness; share of the scenes
    "clear": ((62, 122, 208), (196, 219, 242), (205, 194, 168), (118, 128, 148), 700, 0.00, 0.25, 0.0, 0.22),
    "afternoon": ((92, 142, 210), (222, 226, 226), (195, 174, 138), (122, 127, 140), 450, 0.00, 0.50, 0.0, 0.18),
    "hazy": ((146, 178, 214), (246, 228, 206), (185, 150, 115), (124, 124, 134), 180, 0.05, 0.40, 0.0, 0.10),
    "sunset": ((98, 106, 164), (252, 186, 122), (200, 118, 60), (112, 100, 120), 260, 0.20, 0.45, 0.0, 0.14),
    "dusk": ((38, 48, 98), (158, 116, 138), (14, 12, 20), (96, 98, 136), 300, 0.50, 0.30, 0.0, 0.10),
    "overcast": ((166, 173, 184), (206, 210, 214), (30, 30, 28), (190, 194, 200), 300, 0.03, 0.75, 0.0, 0.12),
    "rain": ((112, 120, 131), (156, 162, 169), (0, 0, 0), (146, 154, 166), 130, 0.30, 0.80, 0.6, 0.09),
    "fog": ((188, 193, 197), (202, 205, 207), (0, 0, 0), (184, 188, 194), 45, 0.10, 0.50, 0.1, 0.05),
}
FOLIAGE = (  # of a scene's season, and its share
    ((78, 124, 46), 0.3),
    ((58, 104, 48), 0.2),
    ((108, 136, 50), 0.2),
    ((50, 92, 58), 0.14),
    ((186, 136, 40), 0.09),
    ((180, 88, 36), 0.07),
)


def draw(seed, height, width, weather=None):
    """-> image uint8 [H,W,3], labels uint8 [H,W]; the same scene at every size, the same bytes on every call.

    weather: a name of WEATHERS; default: one of them, by their shares. What stands in the street is the same in all.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    camera, light, street = choose_camera(rng), choose_light(rng, weather), choose_street(rng)
    canvas = Canvas(camera, light, height, width)
    draw_backdrop(rng, canvas, street)
    draw_ground(rng, canvas, street)
    things = place_things(rng, camera, street)
    for _, function, arguments in sorted(things, key=lambda thing: -thing[0]):
        function(canvas, rng, *arguments)
    return canvas.finish()


def choose_camera(rng):
    return Camera(
        x=rng.normal(0, 2),
        height=rng.uniform(1.3, 2.4) if rng.random() < 0.7 else rng.uniform(2.4, 4.5),
        focal=rng.uniform(0.75, 1.3),
        horizon=rng.uniform(0.38, 0.6),
        vanish=rng.normal(0, 0.2),
        bend=rng.normal(0, 0.0014),
    )


def choose_light(rng, weather=None):
    drawn = list(WEATHERS)[rng.choice(len(WEATHERS), p=[row[-1] for row in WEATHERS.values()])]
    weather = WEATHERS[weather or drawn]
    zenith, skyline, sun, ambient = (np.array(colour, np.float32)[:, None] / 255 for colour in weather[:4])
    visibility, lit, clouds, wetness = weather[4:8]
    tint = rng.normal(1, 0.03, (3, 1)).astype(np.float32) * np.float32(rng.uniform(0.92, 1.08))
    turn = rng.uniform(0, 2 * math.pi)
    rise = rng.uniform(0.5, 1.1) if lit < 0.1 else rng.uniform(0.32, 0.5)  # the sun is low when windows are lit
    return Light(
        zenith=zenith * tint,
        skyline=skyline * tint,
        sun=sun * np.float32(rng.uniform(0.9, 1.1)),
        ambient=ambient * tint,
        direction=(math.cos(rise) * math.sin(turn), math.sin(rise), math.cos(rise) * math.cos(turn)),
        visibility=float(visibility * rng.uniform(0.7, 1.4)),
        lit_windows=float(lit * rng.uniform(0.6, 1.4)),
        clouds=float(np.clip(clouds + rng.normal(0, 0.15), 0, 1)),
        wetness=float(wetness),
    )


def choose_street(rng):
    half, start, width = rng.uniform(3.2, 8), rng.uniform(14, 50), rng.uniform(6, 11)
    has_crossing = rng.random() < 0.45
    foliage = FOLIAGE[rng.choice(len(FOLIAGE), p=[share for _, share in FOLIAGE])][0]
    return Street(
        half=half,
        median=rng.uniform(0.7, 1.8) if half > 6 and rng.random() < 0.4 else 0.0,
        crossing=(start, start + width) if has_crossing else None,
        closed=has_crossing and rng.random() < 0.35,
        traffic=math.exp(rng.uniform(math.log(9), math.log(90))),
        foliage=np.array(foliage) / 255,
        sides=(choose_side(rng), choose_side(rng)),
    )


def choose_side(rng):
    rural = rng.random() < 0.3
    return Side(
        verge=rng.uniform(1.5, 6) if rng.random() < (0.6 if rural else 0.3) else 0.0,
        pavement=rng.uniform(1.5, 5),
        paved=not rural and rng.random() < 0.6,
        setback=rng.uniform(2, 9) if rural or rng.random() < 0.2 else 0.3,
        height=rng.uniform(4, 8) if rural or rng.random() < 0.2 else rng.uniform(8, 26),
        gaps=rng.uniform(0.4, 1.0) if rural else max(0.0, rng.uniform(-0.15, 0.25)),
        pitched=rng.random() < (0.9 if rural else 0.35),
        shops=0.0 if rural else rng.uniform(0, 1),
        tree_spacing=rng.uniform(6, 13) if rng.random() < 0.5 else rng.uniform(16, 60),
        tree_height=rng.uniform(4, 9.5),
        conifers=rng.random() < 0.15,
        parked=rng.random() < 0.45,
        people=int(rng.integers(0, 7)),
    )


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


SOURCE = Source(__doc__, add_arguments, plan)
