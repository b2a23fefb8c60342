"""The things that stand in a toy street, vehicles among them, each drawn with polygons on a Canvas.

Positions are (x, z) in metres as the camera sees them. A thing draws all its random numbers before it asks whether it
can be seen, so that a scene does not depend on the size it is drawn at.
"""

import math

import numpy as np

from datasets.sources.street.canvas import BUILDING, CAR, PERSON, POLE, SIGN, TREE, Wall

METAL = (0.34, 0.35, 0.37)
ANGLES = np.arange(24) * (2 * np.pi / 24)
CIRCLE = np.stack((np.cos(ANGLES), np.sin(ANGLES)), axis=1)  # [24,2]
DISC = CIRCLE[::2].tolist()
# The clumps of a round crown of radius 1: turned by the golden angle they spread evenly, the last one is in the middle.
SPIRAL = np.array([[0.62 * math.sqrt((8.3 - k) / 9) * f(2.4 * k) for f in (math.cos, math.sin)] for k in range(9)])


def rectangle(left, bottom, right, top):
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def disc(x, y, radius):
    return [(x + radius * c, y + radius * s) for c, s in DISC]


def scaled(colour, factor):
    red, green, blue = colour
    return red * factor, green * factor, blue * factor


def between(p, q, share):
    return tuple(a + (b - a) * share for a, b in zip(p, q, strict=True))


def building(canvas, rng, near, far, out, height, style):
    """A block whose street front goes from `near` to `far`, its depth is the vector `out`; `style`: a BuildingStyle."""
    colour = scaled(style.colour, rng.uniform(0.85, 1.1))
    storey, pitch = rng.uniform(2.9, 3.7), rng.uniform(2.2, 3.6)
    offset, shop, steep, has_chimney = rng.integers(9999), rng.random(), rng.uniform(0.25, 0.5), rng.random() < 0.5
    storeys = max(1, round(height / storey))
    height = storeys * storey + 0.5
    front, side = Wall(near, far), Wall(near, (near[0] + out[0], near[1] + out[1]))
    top = [(wall, wall.points([(0, height), (wall.length, height)])) for wall in (front, side)]
    for wall, (start, end) in top:
        canvas.cast([*wall.points([(wall.length, 0), (0, 0)]), start, end])

    gable = rectangle(0, 0, side.length, height)
    if style.pitched:
        rise = steep * side.length
        gable.insert(3, (side.length / 2, height + rise))
        (start, end), half = top[0][1], (out[0] / 2, rise, out[1] / 2)
        ridge = [tuple(a + b for a, b in zip(corner, half, strict=True)) for corner in (end, start)]
        lambert = max(0.0, canvas.light.direction[1] * 0.8 + canvas.lambert(front) * 0.5)
        look = {"grain": 0.1, "offset": offset}
        canvas.plain([start, end, *ridge], BUILDING, style.tiles, lambert, **look)
        if has_chimney:
            x, y, z = between(ridge[1], ridge[0], 0.3)
            stack = Wall((x - 0.4, z), (x + 0.4, z))
            canvas.on_wall(stack, rectangle(0, y - 0.5, 0.8, y + 1.0), BUILDING, scaled(colour, 0.8))
    for wall, outline in ((side, gable), (front, rectangle(0, 0, front.length, height))):
        cell = wall.length / max(1, round(wall.length / pitch))
        grid = (storey, cell, *style.window, storeys, float(shop < style.shops))
        canvas.facade(wall, outline, BUILDING, colour, style.trim, style.shopfront, grid, offset)
        if not style.pitched:
            canvas.on_wall(wall, rectangle(0, height, wall.length, height + 0.4), BUILDING, style.trim)


def ball_shadow(canvas, x, z, height, radius, foot):
    """Shadow of a ball `height` above the ground, standing on a foot of radius `foot`."""
    right, _, ahead = canvas.light.direction
    scale = radius / math.hypot(right, ahead)  # a disc across the sun's way does for the ball
    corners = DISC if canvas.detail(z) * radius > 8 else DISC[::2]
    canvas.cast([(x + scale * ahead * c, height + radius * s, z - scale * right * c) for c, s in corners])
    canvas.touch([(x + foot * c, z + foot * s) for c, s in corners])


def tree(canvas, rng, x, z, height, colour, conifer):
    """A trunk and a crown of clumps, or a cone of them."""
    count = 6 if conifer else len(SPIRAL)
    dice = rng.random((count, 2 + len(CIRCLE)))
    jitter, jag = 2 * dice[:, :2] - 1, 0.86 + 0.28 * dice[:, 2:]  # of the clumps' middles and of their outlines
    thick, bare, broad = 0.02 + 0.01 * rng.random(), 0.22 + 0.18 * rng.random(), 0.9 + 0.4 * rng.random()
    tint, offset = 0.85 + 0.3 * rng.random(), 9999 * rng.random()
    radius = height * (0.24 if conifer else (1 - bare) / 2)
    if not canvas.sees(x, z, radius * 1.6):
        return
    low = height * (0.12 if conifer else bare)
    middle = (low + height) / 2
    ball_shadow(canvas, x, z, middle, radius * 0.9, radius * 0.25)
    trunk = Wall((x - thick * height, z), (x + thick * height, z))
    brown = {"grain": 0.2, "offset": offset}
    canvas.on_wall(trunk, rectangle(0, 0, trunk.length, low * 1.4 + 0.3), TREE, (0.30, 0.23, 0.17), **brown)
    if conifer:
        level = np.arange(count) / count
        radii = radius * (1.05 - level)
        middles = np.stack((x + 0.1 * jitter[:, 0], low + (height - low) * level + radii * 0.3), axis=1)
        shape = CIRCLE * (1, 0.7)
    else:
        middles = SPIRAL * (radius * broad, radius) + jitter * (0.12 * radius) + (x, middle)
        radii = radius * (0.5 + 0.08 * jitter[:, 1])
        shape = CIRCLE
    size = canvas.detail(z) * radius
    if size < 16:  # fewer corners, then fewer and larger clumps
        few = 1 if conifer or size > 12 else 2 if size > 7 else 4
        middles, radii, jag, shape = middles[::few], radii[::few] * few**0.2, jag[::few, ::2], shape[::2]
    outlines = shape * (jag * radii[:, None])[:, :, None]  # [clumps,corners,2]
    canvas.clumps(middles, radii * 1.25, outlines, z, TREE, scaled(colour, tint), offset)


def hedge(canvas, rng, x, z, height, colour):
    """A few round bushes."""
    count = 4
    jag, offset = rng.uniform(0.85, 1.15, (count, len(CIRCLE))), int(rng.integers(9999))
    middles = np.stack((x + np.linspace(-1, 1, count) * height, rng.uniform(0.25, 0.4, count) * height), axis=1)
    if canvas.sees(x, z, 2 * height):
        radii = np.full(count, height * 0.6)
        canvas.touch([(x + 1.6 * height * c, z + 0.5 * height * s) for c, s in DISC])
        outlines = CIRCLE * (jag * radii[:, None])[:, :, None]
        outlines[:, :, 1] = np.maximum(outlines[:, :, 1], -middles[:, None, 1])  # not below the ground
        canvas.clumps(middles, radii * 1.3, outlines, z, TREE, colour, offset)


def person(canvas, rng, x, z):
    height, broad, stride, half_turn = (
        rng.uniform(1.5, 1.9),
        rng.uniform(0.22, 0.29),
        rng.uniform(0.05, 0.32),
        rng.random(),
    )
    shirt = rng.uniform(0.12, 0.95, 3).tolist()
    trousers = scaled((0.9, 0.95, 1.1), rng.uniform(0.08, 0.45))
    skin = scaled((0.86, 0.66, 0.53), rng.uniform(0.45, 1.05))
    hair = scaled((0.35, 0.25, 0.16), rng.uniform(0.2, 1.6))
    if not canvas.sees(x, z, 1):
        return
    wall = Wall((x, z), (x + 1, z))
    hip, neck, head = height * 0.5, height * 0.84, height - 0.14
    ball_shadow(canvas, x, z, hip, 0.35, 0.3)
    for sign in (-1, 1):
        foot = sign * stride
        leg = [(sign * 0.17, hip), (foot + 0.1, 0), (foot - 0.1, 0), (-sign * 0.03, hip)]
        canvas.on_wall(wall, leg, PERSON, scaled(trousers, 0.9 + 0.1 * sign))
        if canvas.detail(z) < 8:
            continue
        arm = [(sign * broad, neck), (sign * (broad + 0.12), hip), (sign * (broad - 0.03), hip)]
        canvas.on_wall(wall, arm, PERSON, scaled(shirt, 0.8))
    body = [(-broad, neck), (-0.2, hip - 0.05), (0.2, hip - 0.05), (broad, neck), (0, neck + 0.07)]
    canvas.on_wall(wall, body, PERSON, shirt, slope=0.3, middle=height * 0.7)
    canvas.on_wall(wall, disc(0, head + 0.01, 0.14), PERSON, hair)
    if half_turn < 0.6:
        canvas.on_wall(wall, disc(0, head - 0.03, 0.11), PERSON, skin)


def lamp(canvas, rng, x, z, height, towards):
    """A street lamp whose arm points `towards` the road, -1 or 1."""
    wall = Wall((x, z), (x + 1, z))
    tip = towards * 1.7
    canvas.on_wall(wall, rectangle(-0.11, 0, 0.11, height), POLE, METAL)
    canvas.on_wall(wall, [(0, height - 0.25), (0, height), (tip, height + 0.25), (tip, height + 0.08)], POLE, METAL)
    lit = canvas.light.lit_windows > 0.25
    colour, glow = ((1.0, 0.88, 0.62), 1.0) if lit else ((0.6, 0.6, 0.6), 0.0)
    canvas.on_wall(wall, rectangle(tip - 0.4, height, tip + 0.4, height + 0.28), POLE, colour, glow=glow)
    canvas.touch([(x + 0.3 * c, z + 0.3 * s) for c, s in DISC])


def traffic_light(canvas, rng, x, z):
    burning = rng.integers(3)
    wall = Wall((x, z), (x + 1, z))
    canvas.on_wall(wall, rectangle(-0.1, 0, 0.1, 2.6), POLE, METAL)
    canvas.on_wall(wall, rectangle(-0.32, 2.4, 0.32, 4.0), SIGN, (0.08, 0.09, 0.08))
    for k, colour in enumerate(((0.1, 0.9, 0.35), (1.0, 0.7, 0.1), (1.0, 0.15, 0.1))):
        bright = 1 if k == burning else 0.2
        canvas.on_wall(wall, disc(0, 2.7 + 0.5 * k, 0.2), SIGN, scaled(colour, bright), glow=1.0)


def sign(canvas, rng, x, z):
    kind = rng.integers(3)
    wall = Wall((x, z), (x + 1, z))
    red, white, blue = (0.82, 0.1, 0.1), (0.93, 0.93, 0.9), (0.1, 0.3, 0.7)
    canvas.on_wall(wall, rectangle(-0.09, 0, 0.09, 2.5), POLE, METAL)
    if kind == 0:
        shapes = (disc(0, 2.7, 0.5), red), (disc(0, 2.7, 0.33), white)
    elif kind == 1:
        shapes = ([(-0.6, 3.2), (0.6, 3.2), (0, 2.2)], red), ([(-0.35, 3.07), (0.35, 3.07), (0, 2.5)], white)
    else:
        shapes = (rectangle(-0.75, 2.2, 0.75, 3.2), white), (rectangle(-0.67, 2.28, 0.67, 3.12), blue)
    for outline, colour in shapes:
        canvas.on_wall(wall, outline, SIGN, colour)


PAINTS = (  # from frequent to rare
    (0.92, 0.92, 0.92),
    (0.70, 0.72, 0.74),
    (0.42, 0.44, 0.47),
    (0.14, 0.15, 0.17),
    (0.72, 0.10, 0.09),
    (0.12, 0.27, 0.62),
    (0.15, 0.42, 0.32),
    (0.90, 0.70, 0.12),
    (0.50, 0.70, 0.84),
    (0.84, 0.40, 0.12),
)
GLASS, TYRE, RIM = (0.11, 0.14, 0.18), (0.07, 0.07, 0.08), (0.5, 0.5, 0.52)
NEAREST = 3.0  # metres; a car that reaches nearer to the camera is left out


def car(canvas, rng, x, z, heading, buses=False):
    """(x, z) is the middle of the car, `heading` the unit vector (x, z) to its front."""
    paint = scaled(PAINTS[int(len(PAINTS) * rng.random() ** 1.7)], rng.uniform(0.85, 1.08))
    body, length, top, trunk = rng.random(), rng.uniform(3.8, 4.7), rng.uniform(1.4, 1.62), rng.uniform(0.1, 0.8)
    width, waist, bonnet, slants, posts = 1.8, 0.88, 1.2, (0.35, 0.55), 1
    if body < 0.1 and buses:
        length, width, waist, top, trunk, bonnet, slants, posts = 10.5, 2.5, 1.3, 3.1, 0, 0, (0.05, 0.1), 6
    elif body < 0.25:
        length, width, waist, top, trunk, bonnet, slants = 5.2, 2.0, 1.15, 2.25, 0.05, 0.7, (0.05, 0.5)
    half, side = length / 2, width / 2
    (ahead_x, ahead_z), (right_x, right_z) = heading, (heading[1], -heading[0])

    def at(along, across, up=0.0):
        return x + ahead_x * along + right_x * across, up, z + ahead_z * along + right_z * across

    corners = footprint(-half, half, side)
    nearest = min(at(*corner)[2] for corner in corners)
    if nearest < NEAREST or not canvas.sees(x, z, half + 1):
        return

    # Of two opposite faces the camera sees the one on its own side.
    across = -side if right_x * x + right_z * z > 0 else side
    end = -half if ahead_x * x + ahead_z * z > 0 else half
    flank = Wall(at(-half, across)[::2], at(half, across)[::2])
    face = Wall(at(end, -side)[::2], at(end, side)[::2])
    close, far = canvas.detail(nearest) > 12, canvas.detail(nearest) < 4

    rear, front = trunk - half, half - bonnet  # of the cabin
    low = [at(*p, waist) for p in footprint(rear, front, side)]
    high = [at(*p, top) for p in footprint(rear + slants[0], front - slants[1], side - 0.17)]
    shadow(canvas, at, corners, waist, high, close)

    gloss = {"slope": 0.45, "middle": 0.7, "grain": 0.0}
    wheels = (0.85, length - 0.85)
    for u in wheels if close else ():  # the wells, under the body
        canvas.on_wall(flank, disc(u, 0.36, 0.42), CAR, TYRE)
    canvas.plain([at(*p, waist) for p in corners], CAR, paint, canvas.light.direction[1], grain=0.0)
    canvas.on_wall(flank, rectangle(0, 0.25, length, waist), CAR, paint, **gloss)
    canvas.on_wall(face, rectangle(0, 0.25, width, waist), CAR, paint, **gloss)
    canvas.on_wall(face, rectangle(0.02, 0.2, width - 0.02, 0.42), CAR, scaled(paint, 0.4))
    for u in () if far else (0.08, width - 0.38):
        canvas.on_wall(face, rectangle(u, 0, u + 0.3, 0.25), CAR, TYRE)
    for u in () if far else wheels:
        canvas.on_wall(flank, disc(u, 0.34, 0.34), CAR, TYRE)
        if close:
            canvas.on_wall(flank, disc(u, 0.34, 0.2), CAR, RIM)
    lights(canvas, face, width, waist, rear=end < 0, close=close)

    canvas.plain(high, CAR, paint, canvas.light.direction[1], grain=0.0)
    sides = (flank, (0, 1) if across < 0 else (3, 2), posts), (face, (0, 3) if end < 0 else (1, 2), 0)
    for wall, (i, j), count in sides:
        quad = low[i], low[j], high[j], high[i]
        canvas.plain(quad, CAR, paint, canvas.lambert(wall), grain=0.0)
        panes(canvas, quad, waist, count if close else 0, paint)


def footprint(rear, front, side):
    return [(rear, -side), (front, -side), (front, side), (rear, side)]


def shadow(canvas, at, corners, waist, roof, close):
    canvas.touch([at(along * 1.02, across * 1.1)[::2] for along, across in corners])
    canvas.cast(roof)
    for i in range(4 if close else 0):
        p, q = corners[i], corners[(i + 1) % 4]
        canvas.cast([at(*p), at(*q), at(*q, waist), at(*p, waist)])


def lights(canvas, face, width, waist, rear, close):
    colour = (0.78, 0.06, 0.05) if rear else (0.97, 0.95, 0.86)
    glow = 1.0 if canvas.light.lit_windows > 0.15 else 0.3
    for u in (0.06, width - 0.42):
        canvas.on_wall(face, rectangle(u, waist - 0.32, u + 0.36, waist - 0.14), CAR, colour, glow=glow)
    if close:
        plate = rectangle(width / 2 - 0.26, 0.45, width / 2 + 0.26, 0.57)
        canvas.on_wall(face, plate, CAR, (0.88, 0.88, 0.82))


def panes(canvas, quad, waist, posts, paint):
    """Glass in a side of the cabin (two lower, two upper corners), parted by posts."""
    left_low, right_low, right_high, left_high = quad
    edges = [
        (between(left_low, left_high, share), between(right_low, right_high, share)) for share in (0.08, 0.86)
    ]  # lower and upper edge of the glass

    def column(start, end):
        (a, b), (c, d) = edges
        return [between(a, b, start), between(a, b, end), between(c, d, end), between(c, d, start)]

    canvas.plain(column(0.06, 0.94), CAR, GLASS, 0.3, slope=1.0, middle=waist + 0.1, grain=0.0)
    for k in range(posts):
        middle = (k + 1) / (posts + 1)
        canvas.plain(column(middle - 0.02, middle + 0.02), CAR, scaled(paint, 0.8), grain=0.0)
