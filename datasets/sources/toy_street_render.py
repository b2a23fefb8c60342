"""The renderer of toy_street: polygons of a scene are drawn once, as surface numbers; labels and image are both read off them.

World: metres, x to the right, y up from the ground, z ahead. The camera looks along z and never turns: a shifted image plane
(`horizon`, `vanish`) takes the place of pitch and yaw, so that verticals stay vertical. Image plane: units of the image's
height, y down. A road that bends is a shear of the world, x + bend * z^2, applied where objects are placed.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 3  # odd, so that a pixel has a central sample: the one its label is read from
SKY_SHADER, GROUND_SHADER, FACADE_SHADER, PLAIN_SHADER, LEAF_SHADER = range(5)
NOISE_SIZE = 512


@dataclass(frozen=True)
class Camera:
    x: float  # metres from the middle of the road
    height: float  # metres above the ground
    focal: float  # in image heights
    horizon: float  # in image heights from the top
    vanish: float  # vanishing point, in half image widths from the middle
    bend: float  # of the road, 1/m

    def place(self, x, z):
        """Point of the street's map (x from the road's middle) -> (x, z) seen from the camera."""
        return x - self.x + self.bend * z * z, z


@dataclass(frozen=True)
class Light:
    zenith: np.ndarray  # colours are float32 [3] in 0..1
    skyline: np.ndarray  # the sky just above the horizon; also the colour of the haze
    sun: np.ndarray
    ambient: np.ndarray
    direction: tuple  # unit vector (x, y, z) towards the sun
    visibility: float  # metres until haze has taken 63 %
    lit_windows: float  # share
    clouds: float  # 0 (clear) .. 1 (covered)
    wetness: float  # 0 (dry) .. 1 (mirror)


class Wall:
    """A vertical plane from (ax, az) along (bx, bz); outlines on it are (u metres along, y metres up)."""

    def __init__(self, a, b):
        (self.ax, self.az), (bx, bz) = a, b
        dx, dz = bx - self.ax, bz - self.az
        self.length = math.hypot(dx, dz)
        self.tx, self.tz = dx / self.length, dz / self.length
        self.nx, self.nz = self.tz, -self.tx
        self.distance = self.nx * self.ax + self.nz * self.az
        if self.distance > 0:  # the normal looks at the camera
            self.nx, self.nz, self.distance = -self.nx, -self.nz, -self.distance

    def at(self, u, y):
        return self.ax + u * self.tx, y, self.az + u * self.tz


class Canvas:
    """Collects surfaces (rows of numbers) and the picture of which surface is seen where."""

    def __init__(self, camera, light, height, width):
        self.camera, self.light = camera, light
        self.scale = height * SUPERSAMPLING  # pixels of the fine picture in a unit of the image plane
        self.size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
        self.centre = width / height / 2 * (1 + camera.vanish)
        self.rows = []
        self._surfaces = Image.new("I", self.size)
        self._shadow = Image.new("L", self.size)
        self._contact = Image.new("L", self.size)
        self._draw = ImageDraw.Draw(self._surfaces)
        self.draw_shadow = ImageDraw.Draw(self._shadow)
        self.draw_contact = ImageDraw.Draw(self._contact)

    def project(self, points):
        """[(x, y, z)] in metres -> [(column, row)] of the fine picture."""
        camera, scale = self.camera, self.scale
        factor = camera.focal * scale
        left, top = self.centre * scale - 0.5, camera.horizon * scale - 0.5
        return [(left + factor * x / z, top + factor * (camera.height - y) / z) for x, y, z in points]

    def paint(self, points, row):
        """Draws the polygon `points` (metres) as a new surface."""
        self.rows.append(row)
        self._draw.polygon(self.project(points), fill=len(self.rows) - 1)

    def backdrop(self, box, row):
        """Draws the band of rows `box` = (top, bottom), in image heights, as a new surface."""
        self.rows.append(row)
        top, bottom = (round(edge * self.scale) for edge in box)
        self._draw.rectangle((0, top, self.size[0], bottom), fill=len(self.rows) - 1)

    def ground(self, points, label, colour, grain=0.1, tile=0.0, offset=0.0):
        """A patch of ground: `points` are (x, z); `grain` is the strength of its texture, `tile` the pitch of its slabs."""
        self.paint([(x, 0.0, z) for x, z in points], ground_row(label, colour, grain, tile, offset))

    def plain(self, points, label, colour, depth, lambert=0.5, grain=0.03, slope=0.0, middle=0.0, glow=0.0, offset=0.0):
        """A polygon of one colour; `slope` brightens it per metre above `middle`; `glow` 1 ignores the scene's light."""
        self.paint(
            points, (label, PLAIN_SHADER, *colour, lambert, depth, grain, slope, middle, glow, offset) + (0,) * 12
        )

    def leaves(self, points, label, colour, depth, middle, radius, offset):
        """A clump of foliage: shaded as a ball around `middle` = (x, y)."""
        row = (label, LEAF_SHADER, *colour, 0, depth, middle[0], middle[1], radius, 0, offset)
        self.paint(points, row + (0,) * 12)

    def on_wall(self, wall, outline, label, colour, **details):
        """A plain polygon on a wall; the wall's direction decides how much sun it gets."""
        points = [wall.at(u, y) for u, y in outline]
        depth = sum(point[2] for point in points) / len(points)
        self.plain(points, label, colour, depth, lambert=self.lambert(wall), **details)

    def facade(self, wall, outline, label, colour, trim, floor, pitch, window, floors, shop, offset):
        """A wall with a grid of windows: `floor` x `pitch` metres a cell, `window` = its share of the cell (width, height)."""
        row = (label, FACADE_SHADER, *colour, self.lambert(wall), wall.nx, wall.nz, wall.distance, wall.ax, wall.az)
        row += (offset, wall.tx, wall.tz, floor, pitch, *window, floors, shop, *trim, wall.length)
        self.paint([wall.at(u, y) for u, y in outline], row)

    def lambert(self, wall):
        x, _, z = self.light.direction
        return max(0.0, wall.nx * x + wall.nz * z)

    def shade(self, points, contact=False):
        """Darkens the ground polygon `points` = [(x, z)]: out of the sun, or (contact) under something."""
        draw = self.draw_contact if contact else self.draw_shadow
        draw.polygon(self.project([(x, 0.0, max(z, 0.5)) for x, z in points]), fill=255)

    def cast(self, points):
        """Shadow on the ground of the convex shape [(x, y, z)]."""
        x, y, z = self.light.direction
        cast = [(px - py * x / y, pz - py * z / y) for px, py, pz in points]
        self.shade(cast)

    def finish(self):
        """-> image uint8 [H,W,3], surface of each pixel's centre int32 [H,W], rows float32 [surfaces,columns]."""
        surfaces = np.asarray(self._surfaces)
        rows = np.array(self.rows, np.float32)
        blur = ImageFilter.BoxBlur(self.scale / 150)
        shadow = np.asarray(self._shadow.filter(blur)).ravel()
        contact = np.asarray(self._contact.filter(blur)).ravel()
        fine = shade_surfaces(self, surfaces, rows, shadow, contact)
        step = SUPERSAMPLING
        by_rows = sum(fine[i::step] for i in range(step))  # [H,3W,3]
        image = sum(by_rows[:, i::step] for i in range(step)) * np.float32(255 / step**2)  # [H,W,3]
        image = np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)
        return image, surfaces[step // 2 :: step, step // 2 :: step], rows


def ground_row(label, colour, grain=0.1, tile=0.0, offset=0.0):
    return (label, GROUND_SHADER, *colour, 0, grain, tile, 0, 0, 0, offset) + (0,) * 12


def sky_row(label):
    return (label, SKY_SHADER) + (0,) * 22


@functools.cache
def noise():
    """Tileable noise float32 [512,512], zero mean, unit variance, with structure at every scale (spectrum 1/f)."""
    white = np.random.Generator(np.random.PCG64(20191126)).standard_normal((NOISE_SIZE, NOISE_SIZE))
    frequency = np.fft.fftfreq(NOISE_SIZE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = np.inf
    smooth = np.fft.ifft2(np.fft.fft2(white) / radius).real
    return np.ascontiguousarray(smooth / smooth.std(), np.float32)


def sample_noise(u, v):
    mask = NOISE_SIZE - 1
    return noise().ravel()[((v.astype(np.int32) & mask) * NOISE_SIZE) + (u.astype(np.int32) & mask)]


def shade_surfaces(canvas, surfaces, rows, shadow, contact):
    """Colour of every pixel of the fine picture: float32 [3H,3W,3] in 0..1 or a little above."""
    height, width = surfaces.shape
    flat = surfaces.ravel()
    shader_of = rows[:, 1].astype(np.uint8)[flat]
    out = np.empty((height * width, 3), np.float32)
    light, scale = canvas.light, np.float32(canvas.scale)
    for shader, function in enumerate((shade_sky, shade_ground, shade_facade, shade_plain, shade_leaves)):
        where = np.flatnonzero(shader_of == shader)
        if where.size == 0:
            continue
        line = where // width
        x = ((where - line * width).astype(np.float32) + np.float32(0.5)) / scale - np.float32(canvas.centre)
        y = (line.astype(np.float32) + np.float32(0.5)) / scale - np.float32(canvas.camera.horizon)
        if shader == SKY_SHADER:
            out[where] = function(canvas, x, y)
            continue
        row = rows.T[:, flat[where]] if shader != GROUND_SHADER else rows.T[:12, flat[where]]
        colour, depth = function(canvas, x, y, row, shadow[where], contact[where])
        haze = np.exp(depth * np.float32(-1 / light.visibility))[:, None]
        out[where] = light.skyline + (colour - light.skyline) * haze
    return out.reshape(height, width, 3)


def shade_sky(canvas, x, y):
    """Gradient, glow around the sun, clouds on a plane overhead."""
    light, camera = canvas.light, canvas.camera
    up = np.maximum(-y, 0) / np.float32(camera.horizon)
    mix = np.power(up, np.float32(0.6))[:, None]
    sky = light.skyline + (light.zenith - light.skyline) * mix
    sx, sy, sz = light.direction
    if sz > 0.1:
        glow = np.exp(-((x - camera.focal * sx / sz) ** 2 + (y + camera.focal * sy / sz) ** 2) * np.float32(5))
        sky += (light.sun * np.float32(0.45)) * glow[:, None]
    far = np.float32(60) / (np.maximum(-y, 0) + np.float32(0.12))
    offset = np.float32(1000 * (1 + light.visibility % 1))
    cloud = sample_noise(x * far + offset, far * np.float32(1.3) + offset)
    cloud = np.clip(cloud * np.float32(0.6) + np.float32(2 * light.clouds - 1), 0, 1) * np.minimum(up * 4, 1)
    white = light.skyline * np.float32(0.55) + (light.ambient + light.sun * np.float32(0.5)) * np.float32(0.5)
    return sky + (white - sky) * (cloud * np.float32(0.7))[:, None]


def shade_ground(canvas, x, y, row, shadow, contact):
    light, camera = canvas.light, canvas.camera
    depth = np.float32(camera.focal * camera.height) / np.maximum(y, np.float32(1e-3))
    across = x * depth / np.float32(camera.focal) + np.float32(camera.x) - np.float32(camera.bend) * depth * depth
    grain, tile, offset = row[6], row[7], row[11]
    fade = 1 / (1 + depth * np.float32(0.06))
    fine = sample_noise(across * 60 + offset, depth * 60 + offset)
    coarse = sample_noise(across * 5 + offset, depth * 3 + offset)
    texture = 1 + grain * (fine * fade + coarse * np.float32(0.6))
    slabs = np.where(tile > 0, tile, 1)
    joint = (np.mod(across, slabs) < 0.06) | (np.mod(depth, slabs) < 0.08)
    texture *= 1 - (joint & (tile > 0)) * (np.float32(0.3) * fade)
    sunlit = np.float32(light.direction[1]) * (1 - shadow * np.float32(0.9 / 255))
    under = 1 - contact * np.float32(0.6 / 255)
    colour = row[2:5].T * (light.ambient + light.sun * sunlit[:, None]) * (texture * under)[:, None]
    if light.wetness:
        mirror = np.float32(light.wetness) / (1 + y * 4) * under * np.clip(1 + coarse * np.float32(0.5), 0.2, 1.5)
        colour += (light.skyline * np.float32(0.9) - colour) * np.minimum(mirror, np.float32(0.8))[:, None]
    return colour, depth


def shade_facade(canvas, x, y, row, shadow, contact):
    """Windows in a grid on the wall's own coordinates: the ray through the pixel meets the plane n . p = d."""
    light, camera = canvas.light, canvas.camera
    lambert, nx, nz, distance, ax, az, offset, tx, tz, floor, pitch, wide, tall, floors, shop = row[5:20]
    ray = x / np.float32(camera.focal)
    depth = distance / np.minimum(nx * ray + nz, np.float32(-1e-4))
    u = (ray * depth - ax) * tx + (depth - az) * tz
    up = np.float32(camera.height) - y * depth / np.float32(camera.focal)
    column, level = u / pitch, up / floor
    i, j = np.floor(column), np.floor(level)
    is_shop = (j == 0) & (shop > 0)
    wide, tall = np.where(is_shop, np.float32(0.88), wide), np.where(is_shop, np.float32(0.7), tall)
    du, dv = np.abs(column - i - np.float32(0.5)), np.abs(level - j - np.float32(0.5))
    room = j < floors
    glass = room & (du < wide / 2) & (dv < tall / 2)
    frame = room & ~glass & (du < wide / 2 + np.float32(0.05)) & (dv < tall / 2 + np.float32(0.05))
    dice = sample_noise(i * 37 + offset, j * 91 + offset * 3)  # one per window

    texture = 1 + np.float32(0.05) * sample_noise(u * 25 + offset, up * 25)
    texture *= np.where(up < 0.7, np.float32(0.8), 1) * np.where((dv > 0.46) & room, np.float32(0.88), 1)
    received = light.ambient + light.sun * lambert[:, None]
    colour = row[2:5].T * (received * texture[:, None])
    trim = np.flatnonzero(frame | (is_shop & (level > 0.85)))
    colour[trim] = row[20:23, trim].T * received[trim]
    panes = np.flatnonzero(glass)
    sheen = np.clip(np.float32(0.28) + dice[panes] * np.float32(0.1) + (level - j)[panes] * np.float32(0.25), 0, 0.8)
    pane = np.float32(0.10) * light.ambient + (light.skyline * np.float32(0.8)) * sheen[:, None]
    share = np.minimum(light.lit_windows * np.where(is_shop[panes], 1.8, 1), 0.95)
    # dice is close to normal: compare its rank, by the logistic approximation of the normal distribution
    burning = 1 / (1 + np.exp(-1.7 * dice[panes])) < share
    lamp = np.float32([1.0, 0.80, 0.48]) * (np.float32(0.75) + np.float32(0.15) * dice[panes])[:, None]
    colour[panes] = np.where(burning[:, None], lamp, pane)
    return colour, depth


def shade_plain(canvas, x, y, row, shadow, contact):
    light, camera = canvas.light, canvas.camera
    lambert, depth, grain, slope, middle, glow, offset = row[5:12]
    metres = depth / np.float32(camera.focal)
    up = np.float32(camera.height) - y * metres
    texture = 1 + grain * sample_noise(x * metres * 20 + offset, up * 20) + slope * (up - middle)
    received = (light.ambient + light.sun * lambert[:, None]) * (1 - glow)[:, None] + glow[:, None]
    return row[2:5].T * (received * np.maximum(texture, np.float32(0.1))[:, None]), depth


def shade_leaves(canvas, x, y, row, shadow, contact):
    light, camera = canvas.light, canvas.camera
    depth, middle_x, middle_y, radius, offset = row[6], row[7], row[8], row[9], row[11]
    metres = depth / np.float32(camera.focal)
    right, up = x * metres, np.float32(camera.height) - y * metres
    nx, ny = (right - middle_x) / radius, (up - middle_y) / radius
    sx, sy, sz = (np.float32(component) for component in light.direction)
    facing = np.maximum(nx * sx + ny * sy - sz * np.float32(0.4) + np.float32(0.35), 0)
    texture = 1 + np.float32(0.22) * sample_noise(right * 14 + offset, up * 14 + offset)
    received = light.ambient * (np.float32(0.75) + np.float32(0.25) * ny)[:, None] + light.sun * facing[:, None]
    return row[2:5].T * (received * np.clip(texture, 0.3, 1.8)[:, None]), depth
