"""Where things stand in a toy street: backdrop and ground are drawn at once, the rest is listed for drawing far to near.

x is measured from the middle of the road until Camera.place turns it into what the camera sees; metres throughout.
"""

import math
from dataclasses import dataclass

import numpy as np

from datasets.sources.street import things
from datasets.sources.street.car import car
from datasets.sources.street.classes import BUILDING, GRASS, MARKING, PAVEMENT, ROAD, SKY, TREE
from datasets.sources.street.shaders import Ground, Sky

NEAR, FAR = 1.3, 150.0  # the nearest point of a wall, and where the backdrop stands
BEYOND = 150.0  # to the sides, more than is ever seen

PLASTERS = np.array(
    (
        (176, 94, 72),
        (150, 78, 66),
        (204, 172, 128),
        (222, 206, 176),
        (188, 188, 182),
        (146, 150, 156),
        (228, 224, 214),
        (198, 148, 102),
        (172, 186, 168),
        (166, 180, 202),
        (218, 178, 148),
        (122, 102, 94),
    )
) / np.float64(255)
TILES = np.array(((156, 78, 58), (124, 68, 54), (90, 88, 94), (106, 94, 84))) / np.float64(255)


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

    def has(self, z, margin):
        """Whether the street is there at z, `margin` off its crossing."""
        if not self.crossing or z < self.crossing[0] - margin:
            return True
        return not self.closed and z > self.crossing[1] + margin


@dataclass(frozen=True)
class BuildingStyle:
    colour: np.ndarray
    trim: np.ndarray
    shopfront: np.ndarray
    tiles: np.ndarray
    pitched: bool
    window: tuple  # share (width, height) of its cell
    shops: float


def draw_backdrop(rng, canvas, street):
    """Sky, and what closes the view: trees on hills, distant houses behind them in some scenes."""
    reach = np.linspace(-300, 300, 61)
    tall, wide = rng.uniform(6, 30, 36), rng.uniform(8, 14, 36)
    plasters, town = PLASTERS[rng.integers(len(PLASTERS), size=36)] * 0.85, rng.random() < 0.35
    hills = rng.uniform(2, 14) * np.abs(np.sin(reach * 0.015 + rng.uniform(0, 6))) + rng.uniform(1, 3, 61)
    canvas.fill_below(0, SKY, Sky(rng.integers(9999)))
    if town:
        for left, top, width, plaster in zip(np.linspace(-210, 210, 36), tall, wide, plasters, strict=True):
            box = [(left, 0, FAR), (left + width, 0, FAR), (left + width, top, FAR), (left, top, FAR)]
            canvas.plain(box, BUILDING, plaster)
    outline = np.array([*zip(reach, hills, strict=True), (300, -9), (-300, -9)])
    canvas.clumps(np.zeros((1, 2)), np.array([50.0]), outline[None], FAR, TREE, street.foliage * 0.9, 0)


def strip(camera, left, right, near=0.4, far=FAR, steps=16):
    """Outline of the ground between x = left and x = right, along the bend of the street."""
    depths = [near * (far / near) ** (k / (steps - 1)) for k in range(steps)]
    return [camera.place(left, z) for z in depths] + [camera.place(right, z) for z in depths[::-1]]


def draw_ground(rng, canvas, street):
    camera = canvas.camera
    asphalt = np.array((0.37, 0.37, 0.39)) * rng.uniform(0.75, 1.2) * rng.normal(1, 0.02, 3)
    stone = np.array((0.68, 0.65, 0.61)) * rng.uniform(0.8, 1.1) * rng.normal(1, 0.03, 3)
    lawn = np.array((0.36, 0.52, 0.21)) * rng.uniform(0.8, 1.15) * rng.normal(1, 0.06, 3)
    slab, offset = rng.choice((0.0, 0.6, 1.0, 1.6)), float(rng.integers(9999))

    def grass(outline):
        canvas.ground(outline, GRASS, lawn, 0.2, 0.0, offset)

    def pavement(outline, shade=1.0):
        canvas.ground(outline, PAVEMENT, stone * shade, 0.08, slab, offset)

    def road(outline):
        canvas.ground(outline, ROAD, asphalt, 0.12, 0.0, offset)

    canvas.fill_below(camera.horizon + camera.height * camera.focal / FAR, GRASS, Ground(*lawn, 0.2, 0.0, offset))
    for direction, side in zip((-1, 1), street.sides, strict=True):
        kerb = street.half + side.verge
        if side.paved:
            pavement(strip(camera, 0, direction * BEYOND), 0.9)
        pavement(strip(camera, 0, direction * (kerb + side.pavement)))
        if side.verge:
            grass(strip(camera, 0, direction * kerb))
        pavement(strip(camera, 0, direction * (street.half + 0.25)), 1.12)  # the kerb
    if street.crossing:
        start, end = street.crossing
        if street.closed:
            pavement(strip(camera, -BEYOND, BEYOND, end))
        road(strip(camera, -BEYOND, BEYOND, start, end))
    road(strip(camera, -street.half, street.half, far=street.crossing[1] if street.closed else FAR))
    for near, far in street.stretches() if street.median else ():
        pavement(strip(camera, -street.median, street.median, near, far))
        grass(strip(camera, 0.25 - street.median, street.median - 0.25, near, far))
    draw_markings(rng, canvas, street)


def draw_markings(rng, canvas, street):
    camera, half = canvas.camera, street.half
    white = np.array((0.95, 0.94, 0.90)) * rng.uniform(0.85, 1)
    if rng.random() < 0.15:
        white = np.array((0.94, 0.76, 0.25))
    dash, gap = ((3.0, 4.0), (5.0, 5.0), (20.0, 0.0))[rng.choice(3, p=(0.5, 0.35, 0.15))]
    wide, first = rng.uniform(0.11, 0.18), rng.uniform(0.6, 4)
    has_lanes, has_edges, has_zebra, zebra = *rng.random(3), rng.uniform(7, 25)
    if street.crossing:
        zebra = street.crossing[0] - 4
    zebra_end = zebra + 3.2

    def mark(left, right, near, far, steps=3):
        canvas.ground(strip(camera, left, right, near, far, steps), MARKING, white, 0.1)

    if street.crossing or has_zebra < 0.25:
        for x in np.arange(-half + 0.5, half - 0.5, 1.2):
            if abs(x + 0.3) > street.median + 0.4 or street.crossing:
                mark(x, x + 0.6, zebra, zebra_end)
    else:
        zebra = zebra_end = -9.0
    lanes = [-half / 2, half / 2] if street.median else [0.0] if half < 5.5 else [-half / 3, half / 3]
    for near, far in street.stretches():
        if has_edges < 0.35:
            for x in (-half + 0.4, half - 0.4):
                mark(x - wide, x + wide, near, far, 16)
        for z in np.arange(near + first, min(far, 80) - dash, dash + gap):
            if has_lanes < 0.85 and not zebra - 1.5 - dash < z < zebra_end + 0.5:
                for x in lanes:
                    mark(x - wide, x + wide, z, z + dash)


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
    colour = PLASTERS[plasters[rng.integers(len(plasters))]] * rng.normal(1, 0.04, 3)
    return BuildingStyle(
        colour=colour,
        trim=np.minimum(colour * (0.65 if rng.random() < 0.5 else 1.3) + 0.05, 0.95),
        shopfront=rng.uniform(0.05, 0.75, 3),
        tiles=TILES[rng.integers(len(TILES))],
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
        if exists and street.has(near, 3) and street.has(far, 2.9):
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
    for z in np.arange(rng.uniform(2, 12), 95, side.tree_spacing):
        z, tall, hue = z + rng.uniform(-1, 1), side.tree_height * rng.uniform(0.8, 1.2), rng.normal(1, 0.07, 3)
        if z > 2.5 and street.has(z, 2):
            where = camera.place(direction * row, z)
            found.append((z, things.tree, (*where, tall, street.foliage * hue, side.conifers)))
    for _ in range(int(side.gaps * 22)):  # gardens and parks
        z, x = rng.uniform(4, 100), front + rng.uniform(0, 4) + rng.exponential(8)
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
        for z in np.arange(rng.uniform(7, 16), 95, rng.uniform(8, 18)):
            if street.has(z, 6):
                tall = side.tree_height * rng.uniform(0.7, 1)
                found.append((z, things.tree, (*camera.place(0, z), tall, street.foliage, side.conifers)))
    return found


def place_furniture(rng, camera, street, direction, side):
    """Poles, signs, parked cars and people of one side."""
    found, half, kerb = [], street.half, street.half + side.verge
    tall, spacing = rng.uniform(5, 8.5), rng.uniform(14, 32)
    for z in np.arange(rng.uniform(4, 16), 95, spacing):
        if street.has(z, 0):
            found.append((z, things.lamp, (*camera.place(direction * (half + 0.6), z), tall, -direction)))
    if street.crossing and rng.random() < 0.7:
        z = street.crossing[0] - 1
        found.append((z, things.traffic_light, camera.place(direction * (half + 0.7), z)))
    for z in rng.uniform(5, 40, rng.integers(0, 3)):
        if street.has(z, 0):
            found.append((z, things.sign, camera.place(direction * (half + 0.7), z)))
    z = rng.uniform(3, 10)
    while side.parked and z < 80:
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
    for direction in (-1, 1):
        lane = direction * (street.median + (street.half - street.median) * rng.uniform(0.35, 0.5))
        z = rng.uniform(3, 6) + rng.exponential(street.traffic / 2)
        while z < 100:
            if street.has(z, 3):
                found.append(drive(camera, lane, z, direction, buses=True))
            z += 8 + rng.exponential(street.traffic)
    if street.crossing:
        start, end = street.crossing
        for share, way in ((0.3, -1.0), (0.72, 1.0)):
            z, x = start + (end - start) * share, rng.uniform(-18, 18)
            if rng.random() < 0.45:
                found.append((z, car, (*camera.place(x, z), (way, 0.0), True)))
        for z in start - rng.uniform(1.5, 4, rng.integers(0, 4)):
            found.append((z, things.person, camera.place(rng.uniform(-street.half, street.half), z)))
    return found
