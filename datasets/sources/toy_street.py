"""toy_street, the embedded data set: street scenes drawn by a program, each from its seed, at any size.
Nothing is downloaded.

Here it is decided what kind of street, light and view a scene has, and where things stand in it; what is in `street`
beside this file draws it.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from datasets.errors import UserError
from datasets.labels import load_space
from datasets.packing import Entry, Item, Plan, Source
from datasets.sources.street import things
from datasets.sources.street.canvas import CLASSES, FAR, PLASTERS, Camera, Canvas, draw_backdrop, draw_ground
from datasets.sources.street.shaders import Light
from datasets.sources.street.things import car

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


# --- Where things stand; they are listed, to be drawn from far to near ---
#
# x is measured from the middle of the road until Camera.place turns it into what the camera sees; metres throughout.

NEAR = 1.3  # metres: the nearest point of a wall
TILES = np.array(((0.61, 0.31, 0.23), (0.49, 0.27, 0.21), (0.35, 0.35, 0.37), (0.42, 0.37, 0.33)))


@dataclass(frozen=True)
class Side:
    """One side of the street, from the kerb outwards."""

    verge: float  # grass between road and pavement
    pavement: float
    paved: bool  # the ground behind the pavement
    setback: float  # from the pavement to the buildings
    height: float  # of the buildings
    gaps: float  # share of the front without buildings
    pitched: bool
    shops: float  # share of the buildings
    tree_spacing: float
    tree_height: float
    conifers: bool
    parked: bool
    people: int


@dataclass(frozen=True)
class Street:
    half: float  # of the road's width
    median: float  # half width of the green in its middle, 0: none
    crossing: tuple | None  # (start, end) in z of a street that crosses
    closed: bool  # the street ends at the crossing
    traffic: float  # between two cars of a lane
    foliage: np.ndarray  # colour of the season
    sides: tuple  # left, right

    def stretches(self):
        """(start, end) of the street's pieces before and after the crossing."""
        if not self.crossing:
            return [(0.4, FAR)]
        before, after = (0.4, self.crossing[0] - 5), (self.crossing[1] + 1, FAR)
        return [before] if self.closed else [before, after]

    def has_parking(self, side):
        return side.parked and self.half - self.median > 4.5

    def has(self, z, margin):
        """Tells whether the street is there at z, `margin` off its crossing."""
        if not self.crossing or z < self.crossing[0] - margin:
            return True
        return not self.closed and z > self.crossing[1] + margin


@dataclass(frozen=True)
class BuildingStyle:
    colour: list  # red, green, blue in 0..1
    trim: list
    shopfront: list
    tiles: list
    pitched: bool
    window: tuple  # share (width, height) of its cell
    shops: float


def place_things(rng, camera, street):
    """-> [(distance by which to sort, function, arguments after canvas and rng)]"""
    found = place_traffic(rng, camera, street)
    for direction, side in zip((-1, 1), street.sides, strict=True):
        front = street.half + side.verge + side.pavement + side.setback
        found += place_buildings(rng, camera, street, direction, side, front)
        found += place_trees(rng, camera, street, direction, side, front)
        found += place_furniture(rng, camera, street, direction, side)
    if street.closed:
        found += place_closing_row(rng, camera, street)
    return found


def choose_style(rng, side, plasters):
    plaster = PLASTERS[plasters[rng.integers(len(plasters))]] * rng.normal(1, 0.04, 3)
    return BuildingStyle(
        colour=plaster.tolist(),
        trim=np.minimum(plaster * (0.65 if rng.random() < 0.5 else 1.3) + 0.05, 0.95).tolist(),
        shopfront=rng.uniform(0.05, 0.75, 3).tolist(),
        tiles=TILES[rng.integers(len(TILES))].tolist(),
        pitched=side.pitched,
        window=(rng.uniform(0.3, 0.6), rng.uniform(0.42, 0.65)) if rng.random() < 0.85 else (0.96, 0.5),
        shops=side.shops,
    )


def place_buildings(rng, camera, street, direction, side, front):
    found, plasters = [], rng.choice(len(PLASTERS), 3, replace=False)
    z = rng.uniform(-8, 2)
    while z < 115:
        near, far = max(z, NEAR), z + (rng.uniform(6, 11) if side.height < 9 else rng.uniform(9, 22))
        style, tall, deep = choose_style(rng, side, plasters), rng.uniform(0.75, 1.35), rng.uniform(8, 13)
        z = far + (rng.uniform(0, 6) if side.gaps > 0.15 else 0)
        if street.crossing and near < street.crossing[0] - 7 < far:
            far = min(far, street.crossing[0] - 3)  # the corner house
        exists = rng.random() >= side.gaps and far > NEAR + 2
        blocks = street.crossing and near < street.crossing[0] < far
        if exists and not blocks and street.has(near, 3) and street.has(far, 2.9):
            ends = camera.place(direction * front, near), camera.place(direction * front, far)
            found.append((far, things.building, (*ends, (direction * deep, 0.0), side.height * tall, style)))
    return found


def place_closing_row(rng, camera, street):
    """The houses one looks at where the street ends."""
    found, depth, side = [], street.crossing[1] + rng.uniform(2.5, 8), street.sides[rng.integers(2)]
    plasters, middle = rng.choice(len(PLASTERS), 3, replace=False), rng.uniform(-8, 8)
    for direction in (-1, 1):
        x = middle
        while abs(x) < 90:
            far = x + direction * rng.uniform(8, 18)
            style, tall = choose_style(rng, side, plasters), side.height * rng.uniform(0.75, 1.35)
            if rng.random() >= side.gaps * 0.6:
                ends = camera.place(x, depth), (camera.place(far, depth)[0], depth)
                found.append((depth + abs(x), things.building, (*ends, (0.0, 10.0), tall, style)))
            x = far
    return found


def place_trees(rng, camera, street, direction, side, front):
    found, kerb = [], street.half + side.verge
    row = kerb - 0.9 if side.verge else kerb + 0.9
    for z in np.arange(rng.uniform(2, 12), 80, side.tree_spacing):
        z, tall, hue = z + rng.uniform(-1, 1), side.tree_height * rng.uniform(0.8, 1.2), rng.normal(1, 0.07, 3)
        if z > 2.5 and street.has(z, 2):
            where = camera.place(direction * row, z)
            found.append((z, things.tree, (*where, tall, street.foliage * hue, side.conifers)))
    for _ in range(int(side.gaps * 22)):  # gardens and parks
        z, x = rng.uniform(4, 80), front + rng.uniform(0, 4) + rng.exponential(8)
        tall, hue, conifer = rng.uniform(3, 11), street.foliage * rng.normal(1, 0.09, 3), rng.random() < 0.25
        where = camera.place(direction * x, z)
        if street.has(z, 3):
            found.append((z + 9, things.tree, (*where, tall, hue, conifer)))
    if side.setback > 1:
        for z in np.arange(rng.uniform(3, 8), 45, rng.uniform(2.4, 8)):
            tall, where = rng.uniform(0.8, 1.6), camera.place(direction * (front - side.setback + 0.9), z)
            if street.has(z, 3):
                found.append((z, things.hedge, (*where, tall, street.foliage * 0.95)))
    if street.median and direction > 0:
        for z in np.arange(rng.uniform(7, 16), 80, rng.uniform(8, 18)):
            if street.has(z, 6):
                tall = side.tree_height * rng.uniform(0.7, 1)
                found.append((z, things.tree, (*camera.place(0, z), tall, street.foliage, side.conifers)))
    return found


def place_furniture(rng, camera, street, direction, side):
    """Poles, signs, parked cars and people of one side."""
    found, half, kerb = [], street.half, street.half + side.verge
    tall, spacing = rng.uniform(5, 8.5), rng.uniform(14, 32)
    for z in np.arange(rng.uniform(4, 16), 80, spacing):
        if street.has(z, 0):
            found.append((z, things.lamp, (*camera.place(direction * (half + 0.6), z), tall, -direction)))
    if street.crossing and rng.random() < 0.7:
        z = street.crossing[0] - 1
        found.append((z, things.traffic_light, camera.place(direction * (half + 0.7), z)))
    for z in rng.uniform(5, 40, rng.integers(0, 3)):
        if street.has(z, 0):
            found.append((z, things.sign, camera.place(direction * (half + 0.7), z)))
    z = rng.uniform(3, 10)
    while street.has_parking(side) and z < 80:
        turned = rng.random() < 0.2
        if rng.random() < 0.7 and street.has(z, 8):
            found.append(drive(camera, direction * (half - 1.15), z, -direction if turned else direction))
        z += rng.uniform(5.8, 8)
    for _ in range(side.people):
        z, x = rng.uniform(3.5, 28), kerb + rng.uniform(0.3, max(0.6, side.pavement - 0.3))
        if street.has(z, 0):
            found.append((z, things.person, camera.place(direction * x, z)))
    return found


def drive(camera, x, z, direction, buses=False):
    """A car along the street: direction 1 drives away from the camera."""
    slope = 2 * camera.bend * z
    scale = direction / math.hypot(1, slope)
    return z, car, (*camera.place(x, z), (slope * scale, scale), buses)


def place_traffic(rng, camera, street):
    """Cars that drive (on the right), a car and people that cross."""
    found = []
    for direction, side in zip((-1, 1), street.sides, strict=True):
        room = street.half - street.median - 2.3 * street.has_parking(side)
        lane = direction * (street.median + room * rng.uniform(0.45, 0.6))
        z = rng.uniform(3, 6) + rng.exponential(street.traffic / 2)
        while z < 100:
            if street.has(z, 5):
                found.append(drive(camera, lane, z, direction, buses=True))
            z += 9 + rng.exponential(street.traffic)
    if street.crossing:
        start, end = street.crossing
        for share, way in ((0.3, -1.0), (0.72, 1.0)):
            z, x = start + (end - start) * share, rng.uniform(-18, 18)
            if rng.random() < 0.45:
                found.append((z, car, (*camera.place(x, z), (way, 0.0), True)))
        for z in start - rng.uniform(1.5, 4, rng.integers(0, 4)):
            found.append((z, things.person, camera.place(rng.uniform(-street.half, street.half), z)))
    return found


# --- The data set ---

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
