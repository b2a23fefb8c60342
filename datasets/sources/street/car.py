"""The vehicles of a toy street: a lower box, a cabin on it, wheels, windows and lamps."""

from datasets.sources.street.canvas import Wall
from datasets.sources.street.classes import CAR
from datasets.sources.street.things import between, disc, rectangle, scaled

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
