"""Backdrop and ground of a toy street: sky, distant houses and hills, lawns, pavements, roads and their markings."""

import numpy as np

from datasets.sources.street.canvas import BUILDING, GRASS, MARKING, PAVEMENT, ROAD, SKY, TREE
from datasets.sources.street.shaders import Ground, Sky

FAR = 150.0  # metres: where the backdrop stands
BEYOND = 150.0  # metres to the sides, more than is ever seen

PLASTERS = np.array(  # red, green, blue in 0..1
    (
        (0.69, 0.37, 0.28),
        (0.59, 0.31, 0.26),
        (0.80, 0.67, 0.50),
        (0.87, 0.81, 0.69),
        (0.74, 0.74, 0.71),
        (0.57, 0.59, 0.61),
        (0.89, 0.88, 0.84),
        (0.78, 0.58, 0.40),
        (0.67, 0.73, 0.66),
        (0.65, 0.71, 0.79),
        (0.85, 0.70, 0.58),
        (0.48, 0.40, 0.37),
    )
)


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
