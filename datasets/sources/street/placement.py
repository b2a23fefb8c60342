"""A toy street, and where things stand in it: they are listed, to be drawn from far to near.

x is measured from the middle of the road until Camera.place turns it into what the camera sees; metres throughout.
"""

import math
from dataclasses import dataclass

import numpy as np

from datasets.sources.street import things
from datasets.sources.street.canvas import FAR, PLASTERS
from datasets.sources.street.things import car

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
