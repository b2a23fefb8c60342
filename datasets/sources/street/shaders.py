"""Surfaces of a toy street and their looks: a kind of surface has its numbers and a function from pixels to colours.

All pixels of a kind are coloured in one call. A shader is given the light, the camera, its pixels' position on the
image plane relative to the vanishing point (x, y: float32 [n], y down), its surface's numbers at each pixel (a
NamedTuple of float32 [n]) and how much of the sun and of the sky is hidden there (0..1: float32 [n]; only the ground
heeds it). It returns colours float32 [3,n] and, for the haze, the depth in metres float32 [n].
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

NOISE_SIZE = 512
LAMP_LIGHT = np.array(((1.0,), (0.80,), (0.48,)), np.float32)


@dataclass(frozen=True)
class Light:
    """Colours are float32 [3,1] in 0..1; a surface in the sun's full light has albedo * (ambient + sun)."""

    zenith: np.ndarray
    skyline: np.ndarray  # the sky just above the horizon, and the colour of the haze
    sun: np.ndarray
    ambient: np.ndarray
    direction: tuple  # unit vector (right, up, ahead) towards the sun
    visibility: float  # metres after which haze has taken 63 %
    lit_windows: float  # share
    clouds: float  # 0 (clear) .. 1 (covered)
    wetness: float  # of the ground, 0 .. 1


class Sky(NamedTuple):
    phase: float  # which part of the clouds' noise


class Ground(NamedTuple):
    red: float
    green: float
    blue: float
    grain: float  # strength of the texture
    tile: float  # pitch of slabs in metres, 0: none
    offset: float  # every `offset` moves the noise, so that no two surfaces share a texture


class Facade(NamedTuple):
    """A wall n . p = distance with a grid of windows, whose coordinates start at the foot (start_x, start_z)."""

    red: float
    green: float
    blue: float
    lambert: float  # cosine between normal and sun, not below 0
    normal_x: float
    normal_z: float
    distance: float
    start_x: float
    start_z: float
    along_x: float
    along_z: float
    storey: float  # height of a cell of the grid, metres
    pitch: float  # its width
    wide: float  # the window's share of its cell
    tall: float
    storeys: float
    shop: float  # 1: the ground floor is a shop
    trim_red: float
    trim_green: float
    trim_blue: float
    shopfront_red: float
    shopfront_green: float
    shopfront_blue: float
    offset: float


class Plain(NamedTuple):
    red: float
    green: float
    blue: float
    lambert: float
    depth: float
    grain: float = 0.03
    slope: float = 0.0  # gets brighter by this per metre above `middle`
    middle: float = 0.0
    glow: float = 0.0  # 1: a lamp, whatever the scene's light
    offset: float = 0.0


class Leaves(NamedTuple):
    """A clump of foliage, lit like a ball."""

    red: float
    green: float
    blue: float
    depth: float
    middle_x: float
    middle_y: float
    radius: float
    offset: float


@functools.cache
def noise(power):
    """Tileable noise float32 [size * size], zero mean, unit variance, amplitudes falling as 1 / frequency^power."""
    white = np.random.Generator(np.random.PCG64(20191126)).standard_normal((NOISE_SIZE, NOISE_SIZE))
    frequency = np.fft.fftfreq(NOISE_SIZE) * NOISE_SIZE
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = np.inf
    smooth = np.fft.ifft2(np.fft.fft2(white) / np.maximum(radius, 3) ** power).real
    return np.ascontiguousarray((smooth / smooth.std()).ravel(), np.float32)


def sample(power, u, v):
    mask = NOISE_SIZE - 1
    return noise(power)[(v.astype(np.int32) & mask) * NOISE_SIZE + (u.astype(np.int32) & mask)]


def albedo(surface):
    return np.stack((surface.red, surface.green, surface.blue))  # [3,n]


def shade_sky(light, camera, x, y, surface, shadow, contact):
    """A gradient, a glow around the sun, clouds on a plane overhead."""
    up = np.maximum(-y, 0) / np.float32(camera.horizon)
    sky = light.skyline + (light.zenith - light.skyline) * np.power(up, np.float32(0.6))
    sun_x, sun_y, sun_z = light.direction
    if sun_z > 0.1:
        squared = (x - camera.focal * sun_x / sun_z) ** 2 + (y + camera.focal * sun_y / sun_z) ** 2
        sky += light.sun * (np.float32(0.4) * np.exp(squared * np.float32(-5)))
    ceiling = np.float32(110) / (np.maximum(-y, 0) + np.float32(0.2))
    cloud = sample(1.7, x * ceiling + surface.phase, ceiling * np.float32(1.5) + surface.phase)
    cloud = np.clip(cloud * np.float32(0.7) + np.float32(2.2 * light.clouds - 1.1), 0, 1) * np.minimum(up * 4, 1)
    white = light.skyline * np.float32(0.5) + (light.ambient + light.sun * np.float32(0.4)) * np.float32(0.5)
    return sky + (white - sky) * (cloud * np.float32(0.75)), None


def shade_ground(light, camera, x, y, surface, shadow, contact):
    depth = np.float32(camera.focal * camera.height) / np.maximum(y, np.float32(1e-3))
    across = x * depth / np.float32(camera.focal) + np.float32(camera.x) - np.float32(camera.bend) * depth * depth
    fade = 1 / (1 + depth * np.float32(0.06))  # of what is too fine to be seen from afar
    fine = sample(1, across * 60 + surface.offset, depth * 60 + surface.offset)
    coarse = sample(1, across * 5 + surface.offset, depth * 3 + surface.offset)
    texture = 1 + surface.grain * (fine * fade + coarse * np.float32(0.6))
    tiled = np.flatnonzero(surface.tile)
    slab, column, row = surface.tile[tiled], across[tiled], depth[tiled]
    joint = (column - np.floor(column / slab) * slab < 0.06) | (row - np.floor(row / slab) * slab < 0.08)
    texture[tiled] *= 1 - joint * (np.float32(0.25) * fade[tiled])
    open_sky = 1 - contact * np.float32(0.65)
    sunlit = np.float32(light.direction[1]) * (1 - shadow * np.float32(0.9))
    colour = albedo(surface) * (light.ambient + light.sun * sunlit) * (texture * open_sky)
    if light.wetness:
        mirror = np.float32(light.wetness) / (1 + y * 4) * open_sky * np.clip(1 + coarse * np.float32(0.5), 0.2, 1.5)
        colour += (light.skyline * np.float32(0.9) - colour) * np.minimum(mirror, np.float32(0.8))
    return colour, depth


def shade_facade(light, camera, x, y, surface, shadow, contact):
    """The ray through a pixel meets the wall's plane; windows are a grid in the wall's own coordinates."""
    s, ray = surface, x / np.float32(camera.focal)
    depth = s.distance / np.minimum(s.normal_x * ray + s.normal_z, np.float32(-1e-4))
    along = (ray * depth - s.start_x) * s.along_x + (depth - s.start_z) * s.along_z
    up = np.float32(camera.height) - y * depth / np.float32(camera.focal)
    column, level = along / s.pitch, up / s.storey
    i, j = np.floor(column), np.floor(level)
    column, level = column - i, level - j  # position in the cell, 0..1
    shop = (j == 0) & (s.shop > 0)
    du, dv = np.abs(column - np.float32(0.5)), np.abs(level - np.where(shop, np.float32(0.42), np.float32(0.5)))
    du -= np.where(shop, np.float32(0.44), s.wide * np.float32(0.5))
    dv -= np.where(shop, np.float32(0.34), s.tall * np.float32(0.5))
    out = np.maximum(du, dv)  # below 0 inside the pane
    indoors = j < s.storeys
    pane = np.flatnonzero(indoors & (out < 0))
    trim = np.flatnonzero((indoors & (out >= 0) & (out < 0.05)) | (shop & (level > 0.82)))

    texture = 1 + np.float32(0.05) * sample(1, along * 25 + s.offset, up * 25)
    texture[up < 0.7] *= np.float32(0.82)
    texture[indoors & (level > 0.94)] *= np.float32(0.88)  # a ledge between storeys
    received = light.ambient + light.sun * s.lambert
    colour = albedo(s) * received * texture
    paint = np.where(
        shop[trim],
        np.stack((s.shopfront_red, s.shopfront_green, s.shopfront_blue))[:, trim],
        np.stack((s.trim_red, s.trim_green, s.trim_blue))[:, trim],
    )
    colour[:, trim] = paint * received[:, trim]

    dice = sample(1, i[pane] * 37 + s.offset[pane], j[pane] * 91 + s.offset[pane] * 3)  # one number per window, normal
    sheen = np.clip(np.float32(0.25) + dice * np.float32(0.12) + level[pane] * np.float32(0.25), 0, 0.8)
    glass = np.float32(0.10) * light.ambient + (light.skyline * np.float32(0.8)) * sheen
    share = np.minimum(light.lit_windows * np.where(shop[pane], 1.8, 1), 0.95)
    burning = 1 / (1 + np.exp(dice * np.float32(-1.7))) < share  # the logistic curve makes a rank of a normal number
    lamp = LAMP_LIGHT * (np.float32(0.85) + np.float32(0.1) * np.sin(9 * dice))
    colour[:, pane] = np.where(burning, lamp, glass)
    return colour, depth


def shade_plain(light, camera, x, y, surface, shadow, contact):
    metres = surface.depth / np.float32(camera.focal)
    up = np.float32(camera.height) - y * metres
    texture = 1 + surface.grain * sample(1, x * metres * 20 + surface.offset, up * 20)
    texture += surface.slope * (up - surface.middle)
    received = light.ambient + light.sun * surface.lambert
    received += (1 - received) * surface.glow
    return albedo(surface) * received * np.maximum(texture, np.float32(0.1)), surface.depth


def shade_leaves(light, camera, x, y, surface, shadow, contact):
    metres = surface.depth / np.float32(camera.focal)
    right, up = x * metres, np.float32(camera.height) - y * metres
    ball_x, ball_y = (right - surface.middle_x) / surface.radius, (up - surface.middle_y) / surface.radius
    sun_x, sun_y, sun_z = (np.float32(component) for component in light.direction)
    facing = np.maximum(ball_x * sun_x + ball_y * sun_y - sun_z * np.float32(0.4) + np.float32(0.35), 0)
    texture = 1 + np.float32(0.28) * sample(1, right * 36 + surface.offset, up * 36 + surface.offset)
    received = light.ambient * (np.float32(0.8) + np.float32(0.3) * ball_y) + light.sun * facing
    return albedo(surface) * received * np.clip(texture, 0.3, 1.8), surface.depth


SHADERS = {Sky: shade_sky, Ground: shade_ground, Facade: shade_facade, Plain: shade_plain, Leaves: shade_leaves}
