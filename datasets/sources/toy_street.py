"""toy_street, the embedded data set: street scenes drawn by a program, each from its seed, at any size.

What is decided here is what a street has and where it stands; toy_street_parts draws each thing, toy_street_render makes
labels and image of the same polygons.
"""

import math

import numpy as np

from datasets.sources import toy_street_parts as parts
from datasets.sources.toy_street_parts import (
    BUILDING,
    CLASSES,
    GRASS,
    MARKING,
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
)
from datasets.sources.toy_street_render import Camera, Canvas, Light, ground_row, sky_row

__all__ = ["CLASSES", "draw"]

NEAR, FAR = 1.3, 150.0  # metres: what stands nearer is left out, what lies farther is backdrop

# zenith, skyline, sun, ambient, visibility (m), lit windows, clouds, wetness, share of scenes
WEATHERS = (
    ((70, 120, 200), (196, 217, 240), (205, 195, 170), (105, 115, 135), 700, 0.00, 0.15, 0.0, 0.22),  # clear noon
    ((95, 140, 205), (222, 224, 222), (195, 175, 140), (110, 114, 126), 450, 0.00, 0.45, 0.0, 0.18),  # afternoon
    ((150, 178, 212), (244, 226, 205), (185, 150, 115), (112, 112, 122), 180, 0.05, 0.35, 0.0, 0.10),  # hazy morning
    ((98, 104, 160), (250, 184, 120), (200, 115, 55), (98, 88, 108), 260, 0.20, 0.40, 0.0, 0.14),  # sunset
    ((30, 38, 80), (146, 104, 128), (12, 10, 18), (72, 74, 108), 260, 0.55, 0.25, 0.0, 0.10),  # dusk
    ((164, 171, 182), (204, 208, 212), (30, 30, 28), (182, 186, 192), 300, 0.03, 0.80, 0.0, 0.12),  # overcast
    ((108, 116, 127), (150, 156, 163), (0, 0, 0), (136, 144, 156), 130, 0.30, 0.85, 0.6, 0.09),  # rain
    ((188, 193, 197), (200, 203, 205), (0, 0, 0), (178, 182, 188), 45, 0.10, 0.90, 0.1, 0.05),  # fog
)
WALLS = (
    np.array(
        [
            (176, 94, 72),
            (150, 78, 66),
            (204, 172, 128),
            (222, 206, 176),
            (188, 188, 182),
            (146, 150, 156),
            (226, 222, 212),
            (196, 148, 104),
            (172, 184, 170),
            (168, 180, 200),
            (216, 178, 148),
            (120, 100, 92),
        ]
    )
    / 255
)
TILES = np.array([(150, 76, 58), (120, 66, 54), (86, 84, 90), (100, 90, 80)]) / 255
FOLIAGE = np.array([(70, 112, 42), (52, 94, 44), (98, 124, 46), (44, 82, 52), (172, 126, 38), (168, 84, 34)]) / 255


def draw(seed, height, width):
    """-> image uint8 [H,W,3], labels uint8 [H,W]. The same arguments give the same bytes; other sizes the same scene."""
    rng = np.random.Generator(np.random.PCG64(seed))
    camera, light = choose_camera(rng), choose_light(rng)
    canvas = Canvas(camera, light, height, width)
    compose(rng, canvas)
    image, surfaces, rows = canvas.finish()
    return image, rows[:, 0].astype(np.uint8)[surfaces]


def choose_camera(rng):
    return Camera(
        x=rng.normal(0, 1.6),
        height=rng.choice([rng.uniform(1.3, 2.2), rng.uniform(2.2, 4.5)], p=[0.7, 0.3]),
        focal=rng.uniform(0.8, 1.3),
        horizon=rng.uniform(0.4, 0.6),
        vanish=rng.normal(0, 0.16),
        bend=rng.normal(0, 0.0012),
    )


def choose_light(rng):
    weather = WEATHERS[rng.choice(len(WEATHERS), p=[row[-1] for row in WEATHERS])]
    zenith, skyline, sun, ambient = (np.array(colour, np.float32) / 255 for colour in weather[:4])
    visibility, lit, clouds, wetness = weather[4:8]
    tint = rng.normal(1, 0.03, 3).astype(np.float32)
    bright = np.float32(rng.uniform(0.9, 1.08))
    turn, rise = rng.uniform(0, 2 * math.pi), rng.uniform(0.45, 1.1) if lit < 0.1 else rng.uniform(0.3, 0.45)
    return Light(
        zenith=zenith * tint * bright,
        skyline=skyline * tint * bright,
        sun=sun * bright,
        ambient=ambient * tint * bright,
        direction=(math.cos(rise) * math.sin(turn), math.sin(rise), math.cos(rise) * math.cos(turn)),
        visibility=float(visibility * rng.uniform(0.7, 1.4)),
        lit_windows=float(lit * rng.uniform(0.6, 1.4)),
        clouds=float(np.clip(clouds + rng.normal(0, 0.15), 0, 1)),
        wetness=float(wetness),
    )


def compose(rng, canvas):
    """Backdrop, ground, then everything that stands on it from far to near."""
    half = rng.uniform(3.2, 7.5)  # of the road's width
    crossing = rng.uniform(12, 45) if rng.random() < 0.4 else None
    crossing = (crossing, crossing + rng.uniform(6, 11)) if crossing else None
    sides = [choose_side(rng) for _ in range(2)]
    season = FOLIAGE[rng.choice(len(FOLIAGE), p=[0.3, 0.2, 0.2, 0.14, 0.09, 0.07])]
    draw_backdrop(rng, canvas, season)
    draw_ground(rng, canvas, half, crossing, sides)
    things = []  # (distance, function, arguments)
    for direction, side in zip((-1, 1), sides, strict=True):
        things += line_side(rng, canvas, direction, half, crossing, side, season)
    things += fill_road(rng, canvas, half, crossing)
    for _, function, arguments in sorted(things, key=lambda thing: -thing[0]):
        function(canvas, rng, *arguments)


def choose_side(rng):
    """What one side of the street is like."""
    rural = rng.random() < 0.25
    return {
        "pavement": rng.uniform(1.5, 4.5),
        "verge": rng.uniform(1.5, 6) if rural or rng.random() < 0.3 else 0.0,
        "paved": not rural and rng.random() < 0.6,  # the ground behind the pavement
        "height": rng.uniform(4, 8) if rural else rng.choice([rng.uniform(6, 12), rng.uniform(10, 26)]),
        "gaps": rng.uniform(0.4, 0.8) if rural else rng.uniform(0, 0.25),
        "trees": rng.uniform(6, 12) if rural or rng.random() < 0.5 else rng.uniform(14, 40),  # metres between two
        "tree_height": rng.uniform(4.5, 9),
        "conifers": rng.random() < 0.15,
        "parked": rng.random() < 0.5,
        "people": rng.integers(0, 6),
        "pitched": rng.random() < (0.9 if rural else 0.3),
        "shops": rng.uniform(0, 1) * (not rural),
        "hues": rng.choice(len(WALLS), 3, replace=False),
    }


def draw_backdrop(rng, canvas, season):
    horizon = canvas.camera.horizon
    canvas.backdrop((0, 1), sky_row(SKY))
    reach = np.linspace(-300, 300, 61)
    heights = 3 + 9 * rng.random() * np.abs(np.sin(reach * 0.02 + rng.uniform(0, 6))) + rng.uniform(0, 3, 61)
    if rng.random() < 0.35:  # a skyline of far houses
        for left in np.arange(-220, 220, 11):
            tall, wide = rng.uniform(6, 26), rng.uniform(8, 14)
            box = [(left, 0, FAR), (left + wide, 0, FAR), (left + wide, tall, FAR), (left, tall, FAR)]
            canvas.plain(box, BUILDING, WALLS[rng.integers(len(WALLS))] * 0.8, FAR)
    outline = [(x, y, FAR) for x, y in zip(reach, heights, strict=True)] + [(300, -5, FAR), (-300, -5, FAR)]
    canvas.leaves(outline, TREE, season * 0.9, FAR, (0, 0), 40, 0)
    ground = canvas.camera.height * canvas.camera.focal / FAR
    canvas.backdrop((horizon + ground, 1), ground_row(GRASS, (0.3, 0.4, 0.2)))


def strip(camera, left, right, near=0.4, far=FAR):
    """Outline of the ground between x = left and x = right, along the bend of the street."""
    steps = np.geomspace(near, far, 16)
    return [camera.place(left, z) for z in steps] + [camera.place(right, z) for z in steps[::-1]]


def draw_ground(rng, canvas, half, crossing, sides):
    camera = canvas.camera
    asphalt = np.array([0.36, 0.36, 0.38]) * rng.uniform(0.75, 1.2) * rng.normal(1, 0.02, 3)
    stone = np.array([0.66, 0.63, 0.59]) * rng.uniform(0.8, 1.1) * rng.normal(1, 0.03, 3)
    lawn = np.array([0.34, 0.47, 0.20]) * rng.uniform(0.8, 1.15) * rng.normal(1, 0.06, 3)
    slab = rng.choice([0.0, 0.6, 1.0, 1.6])
    offset = int(rng.integers(10000))
    for direction, side in zip((-1, 1), sides, strict=True):
        if side["paved"]:
            canvas.ground(strip(camera, 0, direction * 150), PAVEMENT, stone * 0.9, 0.08, slab, offset)
        else:
            canvas.ground(strip(camera, 0, direction * 150), GRASS, lawn, 0.2, 0, offset)
        edge = half + side["verge"]
        canvas.ground(strip(camera, 0, direction * (edge + side["pavement"])), PAVEMENT, stone, 0.08, slab, offset)
        if side["verge"]:
            canvas.ground(strip(camera, 0, direction * edge), GRASS, lawn, 0.2, 0, offset)
        canvas.ground(strip(camera, 0, direction * (half + 0.25)), PAVEMENT, stone * 1.12, 0.05)  # the kerb
    if crossing:
        canvas.ground(strip(camera, -150, 150, *crossing), ROAD, asphalt, 0.12, 0, offset)
    canvas.ground(strip(camera, -half, half), ROAD, asphalt, 0.12, 0, offset)
    draw_markings(rng, canvas, half, crossing)


def draw_markings(rng, canvas, half, crossing):
    camera = canvas.camera
    white = np.array([0.93, 0.92, 0.88]) * rng.uniform(0.8, 1)
    if rng.random() < 0.15:
        white = np.array([0.92, 0.74, 0.25])
    dash, gap = rng.choice([(3.0, 4.0), (5.0, 5.0), (60.0, 0.0)], p=[0.5, 0.35, 0.15])
    lanes = [0.0] if half < 5.5 else [-half / 3, half / 3]
    wide = rng.uniform(0.1, 0.16)
    starts = np.arange(rng.uniform(0.5, 3), 70, dash + gap)
    zebra = crossing[0] - 3.6 if crossing else (rng.uniform(7, 25) if rng.random() < 0.3 else None)
    for x in lanes if rng.random() < 0.85 else []:
        for z in starts:
            blocked = bool(zebra) and z < zebra + 4 and z + dash > zebra - 1.5
            blocked |= bool(crossing) and z < crossing[1] and z + dash > crossing[0]
            if not blocked:
                ends = strip(camera, x - wide, x + wide, z, z + dash)
                canvas.ground(ends, MARKING, white, 0.1)
    if rng.random() < 0.4 and not crossing:
        for x in (-half + 0.4, half - 0.4):
            canvas.ground(strip(camera, x - wide, x + wide), MARKING, white, 0.1)
    if zebra:
        for x in np.arange(-half + 0.5, half - 0.5, 1.1):
            canvas.ground(strip(camera, x, x + 0.55, zebra, zebra + 3.0), MARKING, white, 0.1)


def line_side(rng, canvas, direction, half, crossing, side, season):
    """Buildings, trees, poles, parked cars and people of one side of the street."""
    camera, things = canvas.camera, []
    kerb = half + side["verge"]
    front = kerb + side["pavement"] + (rng.uniform(1, 6) if side["gaps"] > 0.3 else 0.3)

    def place(x, z):
        return camera.place(direction * x, z)

    def clear(z, margin):
        return not (crossing and crossing[0] - margin < z < crossing[1] + margin)

    z = rng.uniform(-8, 2)
    while z < 110:
        length = rng.uniform(6, 11) if side["height"] < 9 else rng.uniform(9, 22)
        near, far = max(z, NEAR), z + length
        crossed = crossing and near < crossing[1] + 3 and far > crossing[0] - 3
        if crossed and near < crossing[0] - 7:
            far, crossed = crossing[0] - 3, False
        if far > NEAR + 2 and not crossed and rng.random() > side["gaps"]:
            hue = WALLS[side["hues"][rng.integers(3)]] * rng.normal(1, 0.04, 3)
            style = {
                "colour": hue,
                "trim": np.clip(hue * rng.choice([0.6, 1.25]) + 0.05, 0, 0.95),
                "roof": float(side["pitched"]),
                "tiles": TILES[rng.integers(len(TILES))],
                "window": (rng.uniform(0.3, 0.6), rng.uniform(0.42, 0.65)) if rng.random() < 0.85 else (0.96, 0.5),
                "shops": side["shops"],
            }
            out = (direction * rng.uniform(8, 13), 0.0)
            tall = side["height"] * rng.uniform(0.75, 1.35)
            things.append((far, parts.building, (place(front, near), place(front, far), out, tall, style)))
        z = crossing[1] + 3 if crossed else far + (0 if side["gaps"] < 0.15 else rng.uniform(0, 6))

    line = kerb - 0.9 if side["verge"] else kerb + 0.8
    for z in np.arange(rng.uniform(2, 12), 90, side["trees"]):
        z = z + rng.uniform(-1, 1)
        if clear(z, 2) and z > 2.5:
            tall = side["tree_height"] * rng.uniform(0.8, 1.2)
            hue = season * rng.normal(1, 0.08, 3)
            things.append((z, parts.tree, (*place(line, z), tall, hue, side["conifers"])))
    for _ in range(int(side["gaps"] * 24)):  # in the gardens
        z = rng.uniform(5, 100)
        where = place(front + rng.uniform(0, 25), z)
        if clear(z, 3):
            things.append(
                (z + 9, parts.tree, (*where, rng.uniform(3, 10), season * rng.normal(1, 0.1, 3), rng.random() < 0.3))
            )

    spacing, first, tall = rng.uniform(14, 30), rng.uniform(4, 14), rng.uniform(5, 8)
    for z in np.arange(first, 90, spacing):
        if clear(z, 0):
            things.append((z, parts.lamp, (*place(half + 0.6, z), tall, -direction)))
    if crossing and rng.random() < 0.7:
        things.append((crossing[0] - 1, parts.traffic_light, place(half + 0.7, crossing[0] - 1)))
    for z in rng.uniform(5, 40, rng.integers(0, 3)):
        things.append((z, parts.sign, place(half + 0.7, z)))

    if side["parked"]:
        z = rng.uniform(3, 10)
        while z < 80:
            if rng.random() < 0.7 and clear(z, 5):
                x, z0 = place(half - 1.15, z)
                slope = 2 * camera.bend * z
                norm = math.hypot(1, slope)
                way = rng.choice([-1, 1]) if rng.random() < 0.2 else direction
                things.append((z, parts.car, (x, z0, (way * slope / norm, way / norm))))
            z += rng.uniform(5.6, 8)
    for _ in range(side["people"]):
        z = rng.uniform(3.5, 28)
        things.append((z, parts.person, place(kerb + rng.uniform(0.3, max(0.5, side["pavement"] - 0.3)), z)))
    return things


def fill_road(rng, canvas, half, crossing):
    """Moving cars, people who cross."""
    camera, things = canvas.camera, []
    for way in (-1, 1):
        z = rng.uniform(5, 40)
        while z < 100:
            x, z0 = camera.place(way * half * 0.42, z)
            slope = 2 * camera.bend * z
            norm = math.hypot(1, slope)
            things.append((z, parts.car, (x, z0, (way * slope / norm, way / norm))))
            z += rng.uniform(7, 45)
    if crossing and rng.random() < 0.5:
        z = crossing[0] + rng.uniform(1.5, 4)
        way = rng.choice([-1.0, 1.0])
        things.append((z, parts.car, (*camera.place(rng.uniform(-14, 14), z), (way, 0.0))))
    for _ in range(rng.integers(0, 4) if crossing else 0):
        z = crossing[0] - rng.uniform(1, 3)
        if z > 4:
            things.append((z, parts.person, camera.place(rng.uniform(-half, half), z)))
    return things
