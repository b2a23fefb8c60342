"""Camera and canvas of toy_street: polygons of the world are drawn once, as numbers of surfaces, and both labels and
image are read off that one picture, so they cannot disagree.

World: metres; x to the right of the camera, y up from the ground, z ahead. The camera looks along z: a shifted image
plane (`horizon`, `vanish`) takes the place of pitch and yaw, so verticals stay vertical. Image plane: units of the
image's height. A road that bends is a shear of the world by bend * z^2, applied by Camera.place.
"""

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from datasets.sources.street.shaders import SHADERS, Facade, Ground, Leaves, Plain, Sky

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


KINDS = {kind: k for k, kind in enumerate(SHADERS)}
SUPERSAMPLING = 2  # fine pixels per pixel and direction; their mean is the image, one of them gives the label


@dataclass(frozen=True)
class Camera:
    x: float  # metres from the middle of the road
    height: float  # metres above the ground
    focal: float  # image heights
    horizon: float  # image heights from the top
    vanish: float  # the vanishing point, half image widths from the middle
    bend: float  # of the road, 1/m

    def place(self, x, z):
        """(metres from the road's middle, metres ahead) -> (x, z)."""
        x, z = float(x), float(z)  # NumPy's scalars would make everything that follows three times slower
        return x - self.x + self.bend * z * z, z


class Wall:
    """A vertical plane that starts at `start` = (x, z); outlines on it are [(metres along, metres up)]."""

    def __init__(self, start, end):
        (self.x, self.z), (end_x, end_z) = start, end
        dx, dz = end_x - self.x, end_z - self.z
        self.length = math.hypot(dx, dz)
        self.along_x, self.along_z = dx / self.length, dz / self.length
        self.normal_x, self.normal_z = self.along_z, -self.along_x
        self.distance = self.normal_x * self.x + self.normal_z * self.z
        if self.distance > 0:  # the normal points to the camera's side
            self.normal_x, self.normal_z, self.distance = -self.normal_x, -self.normal_z, -self.distance

    def points(self, outline):
        return [(self.x + along * self.along_x, up, self.z + along * self.along_z) for along, up in outline]


class Canvas:
    def __init__(self, camera, light, height, width):
        self.camera, self.light = camera, light
        self.scale = height * SUPERSAMPLING  # fine pixels per image height
        self.size = width * SUPERSAMPLING, height * SUPERSAMPLING
        self.centre_x = width / height / 2 * (1 + camera.vanish)
        self.labels = []  # of each surface drawn
        self._kinds, self._places, self._surfaces = [], [], [[] for _ in SHADERS]
        self._numbers = Image.new("I", self.size)
        self._shadow, self._contact = Image.new("L", self.size), Image.new("L", self.size)
        self._draw = ImageDraw.Draw(self._numbers)
        self._draw_shadow, self._draw_contact = ImageDraw.Draw(self._shadow), ImageDraw.Draw(self._contact)
        self.sunny = float(light.sun.max()) > 0.15
        self._factor = camera.focal * self.scale
        # The polygon filler takes integers for pixel centres.
        self._left, self._top = self.centre_x * self.scale - 0.5, camera.horizon * self.scale - 0.5

    def project(self, points):
        """[(x, y, z)] -> [(column, row)] of the fine picture."""
        factor, left, top, eye = self._factor, self._left, self._top, self.camera.height
        return [(left + factor / z * x, top + factor / z * (eye - y)) for x, y, z in points]

    def detail(self, z):
        """Fine pixels per metre at depth z: what is too small to be seen need not be drawn."""
        return self._factor / z

    def sees(self, x, z, radius):
        factor = self._factor / z
        column = self._left + factor * x
        return -factor * radius < column < self.size[0] + factor * radius

    def lambert(self, wall):
        """Cosine between the wall's normal and the sun, not below 0."""
        right, _, ahead = self.light.direction
        return max(0.0, wall.normal_x * right + wall.normal_z * ahead)

    # Surfaces, from far to near.

    def fill_below(self, row, label, surface):
        """Everything from `row` (image heights from the top) down."""
        number = self._add(label, surface)
        self._draw.rectangle((0, round(row * self.scale), *self.size), fill=number)

    def polygon(self, points, label, surface):
        number = self._add(label, surface)
        self._draw.polygon(self.project(points), fill=number)

    def ground(self, outline, label, colour, grain=0.1, tile=0.0, offset=0.0):
        """A patch of ground: outline = [(x, z)]."""
        self.polygon([(x, 0.0, z) for x, z in outline], label, Ground(*colour, grain, tile, offset))

    def plain(self, points, label, colour, lambert=0.4, **look):
        self.polygon(points, label, Plain(*colour, lambert, points[0][2], **look))

    def on_wall(self, wall, outline, label, colour, **look):
        self.plain(wall.points(outline), label, colour, self.lambert(wall), **look)

    def facade(self, wall, outline, label, colour, trim, shopfront, grid, offset):
        """grid: (storey, pitch, wide, tall, storeys, shop) of a Facade."""
        geometry = wall.normal_x, wall.normal_z, wall.distance, wall.x, wall.z, wall.along_x, wall.along_z
        surface = Facade(*colour, self.lambert(wall), *geometry, *grid, *trim, *shopfront, offset)
        self.polygon(wall.points(outline), label, surface)

    def clumps(self, middles, radii, outlines, z, label, colour, offset):
        """Clumps of foliage at one depth: middles [k,2] (x, y), radii [k], outlines [k,points,2] around 0 in metres."""
        red, green, blue = map(float, colour)
        eye = np.array((0.0, self.camera.height))
        fine = ((outlines + middles[:, None]) - eye) * (self._factor / z * np.array((1, -1))) + (self._left, self._top)
        shapes = fine.reshape(len(middles), -1).tolist()
        for shape, (x, y), radius in zip(shapes, middles.tolist(), radii.tolist(), strict=True):
            number = self._add(label, Leaves(red, green, blue, z, x, y, radius, offset))
            self._draw.polygon(shape, fill=number)

    def _add(self, label, surface):
        kind = KINDS[type(surface)]
        self.labels.append(label)
        self._kinds.append(kind)
        self._places.append(len(self._surfaces[kind]))
        self._surfaces[kind].append(surface)
        return len(self.labels) - 1

    # Shadows on the ground.

    def cast(self, points):
        """The sun's shadow of the polygon [(x, y, z)]."""
        if not self.sunny:
            return
        right, up, ahead = self.light.direction
        right, ahead = right / up, ahead / up
        cast = [(x - y * right, 0.0, max(z - y * ahead, 0.5)) for x, y, z in points]
        self._draw_shadow.polygon(self.project(cast), fill=255)

    def touch(self, outline):
        """The darkness under something that stands on the ground patch [(x, z)]."""
        self._draw_contact.polygon(self.project([(x, 0.0, z) for x, z in outline]), fill=255)

    def finish(self):
        """-> image uint8 [H,W,3], labels uint8 [H,W]."""
        numbers, step = np.asarray(self._numbers), SUPERSAMPLING
        labels = np.array(self.labels, np.uint8)[numbers[1::step, 1::step]]
        fine = self._colours(numbers)  # [3,2H,2W]
        rows = sum(fine[:, i::step] for i in range(step))  # [3,H,2W]
        mean = sum(rows[:, :, i::step] for i in range(step)) / step**2  # [3,H,W]
        image = np.clip(mean, 0, 1) ** np.float32(0.8)  # lifts the shades as a camera does
        return (image * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy(), labels

    def _colours(self, numbers):
        """numbers int [h,w] of surfaces -> float32 [3,h,w], 0..1 or a little above."""
        height, width = numbers.shape
        numbers = numbers.ravel()
        kinds = np.array(self._kinds, np.uint8)[numbers]
        places = np.array(self._places)  # of a surface among those of its kind
        blur = ImageFilter.BoxBlur(self.scale / 150)
        hidden = [np.asarray(layer.filter(blur)).ravel() for layer in (self._shadow, self._contact)]
        x = ((np.arange(width) + 0.5) / self.scale - self.centre_x).astype(np.float32)
        y = ((np.arange(height) + 0.5) / self.scale - self.camera.horizon).astype(np.float32)
        colours = np.empty((3, height * width), np.float32)
        for k, (kind, shader) in enumerate(SHADERS.items()):
            pixels = np.flatnonzero(kinds == k)
            table = np.fromiter(chain.from_iterable(self._surfaces[k]), np.float32).reshape(-1, len(kind._fields))
            surface = kind(*table.T.take(places[numbers[pixels]], axis=1))
            row = pixels // width
            dark = (layer[pixels] * np.float32(1 / 255) for layer in hidden)
            colour, depth = shader(self.light, self.camera, x[pixels - row * width], y[row], surface, *dark)
            if depth is not None:
                clear = np.exp(depth * np.float32(-1 / self.light.visibility))
                colour = self.light.skyline + (colour - self.light.skyline) * clear
            colours[:, pixels] = colour
        return colours.reshape(3, height, width)


# --- Backdrop and ground: sky, distant houses and hills, lawns, pavements, roads and their markings ---

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
