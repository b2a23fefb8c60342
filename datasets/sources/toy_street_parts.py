"""The things that stand in a toy street, each drawn by polygons on a Canvas (metres, camera's coordinates)."""

import math

import numpy as np

from datasets.sources.toy_street_render import Wall

CLASSES = (
    ("road", (128, 64, 128)),
    ("marking", (250, 240, 250)),
    ("pavement", (244, 35, 232)),
    ("grass", (152, 251, 152)),
    ("building", (70, 70, 70)),
    ("tree", (107, 142, 35)),
    ("sky", (70, 130, 180)),
    ("pole", (190, 153, 153)),
    ("sign", (250, 170, 30)),
    ("car", (0, 0, 142)),
    ("person", (220, 20, 60)),
)
ROAD, MARKING, PAVEMENT, GRASS, BUILDING, TREE, SKY, POLE, SIGN, CAR, PERSON = range(len(CLASSES))

PAINTS = np.array(  # of cars: mostly greys, as on the road
    [
        (0.90, 0.90, 0.90),
        (0.70, 0.72, 0.74),
        (0.42, 0.44, 0.47),
        (0.13, 0.14, 0.16),
        (0.70, 0.10, 0.09),
        (0.12, 0.25, 0.58),
        (0.15, 0.42, 0.32),
        (0.88, 0.68, 0.12),
        (0.50, 0.68, 0.80),
        (0.80, 0.38, 0.12),
    ]
)
GLASS = (0.10, 0.13, 0.17)
TYRE = (0.07, 0.07, 0.08)
METAL = (0.30, 0.31, 0.33)
DISC = [(math.cos(k * math.pi / 6), math.sin(k * math.pi / 6)) for k in range(12)]


def rectangle(left, bottom, right, top):
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def building(canvas, rng, near, far, out, height, style):
    """A block with its street front from `near` to `far` ((x, z) each) and its depth along the vector `out`."""
    colour = style["colour"] * rng.uniform(0.85, 1.1)
    floor, pitch = rng.uniform(2.9, 3.7), rng.uniform(2.2, 3.6)
    floors = max(1, round(height / floor))
    height = floors * floor + 0.5
    offset = rng.integers(10000)
    roof = style["roof"] * rng.uniform(0.25, 0.5) * abs(out[0])
    look = {
        "trim": style["trim"],
        "floor": floor,
        "window": style["window"],
        "floors": floors,
        "shop": float(rng.random() < style["shops"]),
        "offset": offset,
    }
    back_near, back_far = (near[0] + out[0], near[1] + out[1]), (far[0] + out[0], far[1] + out[1])
    front, side = Wall(near, far), Wall(near, back_near)
    canvas.cast([(x, y, z) for (x, z), y in zip((near, near, far, far), (0, height, height, 0), strict=True)])
    canvas.cast(
        [(x, y, z) for (x, z), y in zip((near, near, back_near, back_near), (0, height, height, 0), strict=True)]
    )
    shape = rectangle(0, 0, side.length, height)
    if roof > 0:
        shape = [*shape[:3], (side.length / 2, height + roof), shape[3]]
        ridge = [(near[0] + out[0] / 2, height + roof, near[1]), (far[0] + out[0] / 2, height + roof, far[1])]
        eaves = [(near[0], height, near[1]), (far[0], height, far[1])]
        sun = max(0.0, canvas.light.direction[1] * 0.8 + canvas.lambert(front) * 0.5)
        canvas.plain(
            [*eaves, *ridge[::-1]],
            BUILDING,
            style["tiles"],
            (near[1] + far[1]) / 2,
            lambert=sun,
            grain=0.1,
            offset=offset,
        )
    canvas.facade(side, shape, BUILDING, colour, pitch=side.length / max(1, round(side.length / pitch)), **look)
    columns = max(1, round(front.length / pitch))
    canvas.facade(front, rectangle(0, 0, front.length, height), BUILDING, colour, pitch=front.length / columns, **look)
    if roof == 0:
        edge = rectangle(0, height, front.length, height + 0.35), rectangle(0, height, side.length, height + 0.35)
        canvas.on_wall(front, edge[0], BUILDING, style["trim"])
        canvas.on_wall(side, edge[1], BUILDING, style["trim"])


def tree(canvas, rng, x, z, height, colour, conifer):
    """A trunk with clumps of leaves, or a cone of them."""
    offset = int(rng.integers(10000))
    trunk = 0.03 * height * rng.uniform(0.7, 1.1)
    wall = Wall((x - trunk, z), (x + trunk, z))
    crown = height * (0.15 if conifer else rng.uniform(0.28, 0.42))
    canvas.on_wall(wall, rectangle(0, 0, 2 * trunk, crown * 1.3), TREE, (0.27, 0.20, 0.14), grain=0.2, offset=offset)
    radius = (height - crown) * (0.5 if not conifer else 0.28)
    count = 6 if conifer else 7
    where, jag = rng.uniform(-1, 1, (count, 2)), rng.uniform(0.82, 1.15, (count, len(DISC)))
    ground_shadow(canvas, x, z, (crown + height) / 2, radius)
    colour = np.asarray(colour) * rng.uniform(0.85, 1.15)
    for k in range(count):
        if conifer:
            level = k / count
            size = radius * (1 - level) + 0.15
            middle = x + where[k, 0] * 0.1, crown + (height - crown) * level + size * 0.4
            points = [
                (middle[0] + size * c * j, middle[1] + size * 0.75 * s * j, z)
                for (c, s), j in zip(DISC, jag[k], strict=True)
            ]
        else:
            size = radius * (0.62 - 0.02 * k)
            turn = k * 2.4
            middle = (
                x + radius * 0.5 * math.cos(turn) + where[k, 0] * radius * 0.2,
                (crown + height) / 2 + radius * 0.48 * math.sin(turn) + where[k, 1] * radius * 0.15,
            )
            points = [
                (middle[0] + size * c * j, middle[1] + size * s * j, z) for (c, s), j in zip(DISC, jag[k], strict=True)
            ]
        canvas.leaves(points, TREE, colour * (0.9 + 0.03 * k), z, middle, size * 1.2, offset + 40 * k)


def ground_shadow(canvas, x, z, height, radius):
    """The shadow of a ball, and a dark foot."""
    sx, sy, sz = canvas.light.direction
    cx, cz = x - height * sx / sy, z - height * sz / sy
    stretch = min(2.0, 1 / sy)
    if cz > 1:
        canvas.shade([(cx + radius * c * stretch, cz + radius * s * stretch) for c, s in DISC])
    canvas.shade([(x + radius * 0.3 * c, z + radius * 0.3 * s) for c, s in DISC], contact=True)


def car(canvas, rng, x, z, heading):
    """`heading`: unit vector (x, z) of the car's length; (x, z) is its middle."""
    paint = PAINTS[rng.choice(len(PAINTS), p=[0.2, 0.16, 0.14, 0.12, 0.12, 0.1, 0.05, 0.04, 0.04, 0.03])]
    paint = paint * rng.uniform(0.85, 1.1)
    van = rng.random() < 0.2
    length, width = (5.2, 2.0) if van else (rng.uniform(3.7, 4.7), 1.8)
    waist, top = (1.1, 2.2) if van else (0.88, rng.uniform(1.38, 1.6))
    (hx, hz), (rx, rz) = heading, (heading[1], -heading[0])
    cabin = (-length / 2 + 0.05, length / 2 - 1.0) if van else (-length / 2 + rng.uniform(0.1, 0.7), length / 2 - 1.2)
    slant = 0.25 if van else 0.45

    def at(along, across):
        return x + hx * along + rx * across, z + hz * along + rz * across

    half, side = length / 2, width / 2
    if min(at(a, b)[1] for a in (-half, half) for b in (-side, side)) < 1.2:
        return
    corners = [at(-half, -side), at(half, -side), at(half, side), at(-half, side)]
    canvas.shade([at(a * 1.03, b * 1.1) for a, b in ((-half, -side), (half, -side), (half, side), (-half, side))], True)
    canvas.cast([(px, 0, pz) for px, pz in corners])
    canvas.cast(
        [(*at(a, b)[:1], top, at(a, b)[1]) for a, b in ((-half, -side), (half, -side), (half, side), (-half, side))]
    )
    for i in range(4):
        (ax, az), (bx, bz) = corners[i], corners[(i + 1) % 4]
        canvas.cast([(ax, 0, az), (bx, 0, bz), (bx, waist, bz), (ax, waist, az)])

    sky = canvas.light.direction[1]
    gloss = {"slope": 0.5, "middle": 0.65, "grain": 0.0}
    # which long side and which end face the camera: the one whose outward normal looks back at it
    across = -side if rx * x + rz * z > 0 else side
    flip = -1 if across < 0 else 1
    end = -half if hx * x + hz * z > 0 else half
    flank = Wall(at(-half, across), at(half, across))
    face = Wall(at(end, -side), at(end, side))
    for u in (0.8, length - 0.8):  # wheel wells first, bodies over them, wheels last
        canvas.on_wall(flank, [(u + 0.42 * c, max(0.0, 0.34 + 0.42 * s)) for c, s in DISC], CAR, TYRE)
    canvas.plain([(px, waist, pz) for px, pz in corners], CAR, paint * 1.05, z, lambert=sky, grain=0)
    canvas.on_wall(flank, rectangle(0, 0.25, length, waist), CAR, paint, **gloss)
    canvas.on_wall(face, rectangle(0, 0.22, width, waist), CAR, paint, **gloss)
    canvas.on_wall(face, rectangle(0.02, 0.2, width - 0.02, 0.42), CAR, paint * 0.35)
    for u in (0.1, width - 0.45):
        canvas.on_wall(face, rectangle(u, 0.05, u + 0.3, 0.25), CAR, TYRE)
    for u in (0.8, length - 0.8):
        for radius, colour in ((0.34, TYRE), (0.19, (0.5, 0.5, 0.52))):
            canvas.on_wall(flank, [(u + radius * c, 0.34 + radius * s) for c, s in DISC], CAR, colour)
    back_lit, rear = canvas.light.lit_windows > 0.2, end < 0
    lamp = (0.75, 0.06, 0.05) if rear else (0.95, 0.93, 0.85)
    for u in (0.05, width - 0.4):
        shape = rectangle(u, waist - 0.3, u + 0.35, waist - 0.12)
        canvas.on_wall(face, shape, CAR, lamp, glow=0.9 if back_lit else 0.3)
    canvas.on_wall(face, rectangle(width / 2 - 0.26, 0.45, width / 2 + 0.26, 0.56), CAR, (0.85, 0.85, 0.8))

    low = [(cabin[0], -side), (cabin[1], -side), (cabin[1], side), (cabin[0], side)]
    inner = side - 0.18
    high = [
        (cabin[0] + slant * 0.6, -inner),
        (cabin[1] - slant, -inner),
        (cabin[1] - slant, inner),
        (cabin[0] + slant * 0.6, inner),
    ]
    low = [(*at(*p)[:1], waist, at(*p)[1]) for p in low]
    high = [(*at(*p)[:1], top, at(*p)[1]) for p in high]
    long_side = (0, 1) if flip < 0 else (3, 2)
    short_side = (0, 3) if end < 0 else (1, 2)
    canvas.plain(high, CAR, paint * 1.05, z, lambert=sky, grain=0)
    for i, j in (long_side, short_side):
        lambert = canvas.lambert(flank if (i, j) == long_side else face)
        quad = [low[i], low[j], high[j], high[i]]
        canvas.plain(quad, CAR, paint, quad[0][2], lambert=lambert, grain=0)
        pane = inset(quad, 0.1, 0.88)
        canvas.plain(pane, CAR, GLASS, quad[0][2], lambert=0.3, slope=1.2, middle=waist + 0.1, grain=0)
    post = between(low[long_side[0]], low[long_side[1]], 0.5), between(high[long_side[0]], high[long_side[1]], 0.5)
    thick = 0.06
    canvas.plain(
        [
            (p[0] + hx * t, p[1], p[2] + hz * t)
            for p, t in ((post[0], -thick), (post[0], thick), (post[1], thick), (post[1], -thick))
        ],
        CAR,
        paint * 0.8,
        z,
        grain=0,
    )


def between(p, q, share):
    return tuple(a + (b - a) * share for a, b in zip(p, q, strict=True))


def inset(quad, low, high):
    """The quadrilateral (two lower, two upper corners) shrunk inside itself."""
    a, b, c, d = quad
    left, right = (between(a, d, low), between(a, d, high)), (between(b, c, low), between(b, c, high))
    return [
        between(left[0], right[0], 0.07),
        between(left[0], right[0], 0.93),
        between(left[1], right[1], 0.93),
        between(left[1], right[1], 0.07),
    ]


def person(canvas, rng, x, z):
    height = rng.uniform(1.5, 1.9)
    shirt, trousers = rng.uniform(0.1, 0.9, 3), rng.uniform(0.08, 0.4) * np.array([0.9, 0.95, 1.1])
    skin = np.array([0.86, 0.66, 0.53]) * rng.uniform(0.45, 1.05)
    stride = rng.uniform(0.05, 0.32)
    wall = Wall((x - 1, z), (x + 1, z))
    hip, neck, broad = height * 0.5, height * 0.84, rng.uniform(0.21, 0.27)
    ground_shadow(canvas, x, z, height * 0.5, 0.35)
    for sign in (-1, 1):
        foot = 1 + sign * stride
        shape = [(1 + sign * 0.16, hip), (foot + 0.1, 0), (foot - 0.1, 0), (1 - sign * 0.03, hip)]
        canvas.on_wall(wall, shape, PERSON, trousers * (0.9 + 0.1 * sign))
    for sign in (-1, 1):
        shape = [(1 + sign * broad, neck), (1 + sign * (broad + 0.12), hip), (1 + sign * (broad - 0.02), hip)]
        canvas.on_wall(wall, shape, PERSON, shirt * 0.8)
    body = [(1 - broad, neck), (1 - 0.19, hip - 0.05), (1 + 0.19, hip - 0.05), (1 + broad, neck), (1, neck + 0.06)]
    canvas.on_wall(wall, body, PERSON, shirt, slope=0.3, middle=height * 0.7)
    head = height - 0.13
    canvas.on_wall(wall, [(1 + 0.12 * c, head + 0.02 + 0.14 * s) for c, s in DISC], PERSON, skin * 0.3)
    canvas.on_wall(wall, [(1 + 0.1 * c, head - 0.03 + 0.1 * s) for c, s in DISC], PERSON, skin)


def lamp(canvas, rng, x, z, height, towards):
    """A street lamp whose arm points `towards` the road (-1 or 1)."""
    wall = Wall((x - 4, z), (x + 4, z))
    arm = 4 + towards * 1.6
    canvas.on_wall(wall, rectangle(4 - 0.11, 0, 4 + 0.11, height), POLE, METAL)
    canvas.on_wall(wall, [(4, height - 0.2), (4, height), (arm, height + 0.25), (arm, height + 0.1)], POLE, METAL)
    glow = 1.0 if canvas.light.lit_windows > 0.3 else 0.0
    head = rectangle(min(arm, arm - towards * 0.7), height + 0.02, max(arm, arm - towards * 0.7), height + 0.3)
    canvas.on_wall(wall, head, POLE, (1.0, 0.86, 0.6) if glow else (0.5, 0.5, 0.5), glow=glow)
    ground_shadow(canvas, x, z, 0.3, 0.4)


def traffic_light(canvas, rng, x, z):
    wall = Wall((x - 1, z), (x + 1, z))
    canvas.on_wall(wall, rectangle(0.91, 0, 1.09, 2.6), POLE, METAL)
    canvas.on_wall(wall, rectangle(0.7, 2.4, 1.3, 3.9), SIGN, (0.08, 0.09, 0.08))
    burning = rng.integers(3)
    for k, colour in enumerate(((0.1, 0.9, 0.35), (1.0, 0.7, 0.1), (1.0, 0.15, 0.1))):
        bright = np.array(colour) * (1 if k == burning else 0.22)
        canvas.on_wall(wall, [(1 + 0.18 * c, 2.68 + 0.48 * k + 0.18 * s) for c, s in DISC], SIGN, bright, glow=1.0)


def sign(canvas, rng, x, z):
    wall = Wall((x - 1, z), (x + 1, z))
    canvas.on_wall(wall, rectangle(0.93, 0, 1.07, 2.4), POLE, METAL)
    kind = rng.integers(3)
    if kind == 0:  # limit: a red ring
        canvas.on_wall(wall, [(1 + 0.45 * c, 2.6 + 0.45 * s) for c, s in DISC], SIGN, (0.8, 0.1, 0.1))
        canvas.on_wall(wall, [(1 + 0.3 * c, 2.6 + 0.3 * s) for c, s in DISC], SIGN, (0.92, 0.92, 0.9))
    elif kind == 1:  # give way: a red triangle
        canvas.on_wall(wall, [(0.5, 3.0), (1.5, 3.0), (1, 2.15)], SIGN, (0.8, 0.1, 0.1))
        canvas.on_wall(wall, [(0.7, 2.9), (1.3, 2.9), (1, 2.4)], SIGN, (0.92, 0.92, 0.9))
    else:  # direction: a blue board
        canvas.on_wall(wall, rectangle(0.4, 2.2, 1.6, 3.1), SIGN, (0.9, 0.9, 0.9))
        canvas.on_wall(wall, rectangle(0.46, 2.26, 1.54, 3.04), SIGN, (0.1, 0.28, 0.65))
