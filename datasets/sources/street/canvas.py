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

from datasets.sources.street.shaders import SHADERS, Facade, Ground, Leaves, Plain

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
