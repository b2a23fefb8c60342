"""Pictures of what models draw, beside what they were to draw; animated walks."""

from pathlib import Path

import torch
from PIL import Image

from SBGAN.drawing.files import replacing
from SBGAN.model import Model, draw_images, draw_layouts
from SPADE.engine.images import colour_layouts, enlarge, render, sheet, spread_pairs, square_sheet
from SPADE.train import pictures

MANY = 32  # samples of a sheet that has nothing but them


def layouts_sheet(generator, label_space, resolution=None, alpha: float = 1.0, seed: int = 0):
    """Layouts from noise: uint8 [3,...]"""
    layouts = draw_layouts(generator, range(seed, seed + MANY), resolution, alpha)
    return square_sheet(visible(colour_layouts(layouts, torch.from_numpy(label_space.colours))))


def images_sheet(generator, resolution=None, alpha: float = 1.0, seed: int = 0):
    """The RGB baseline's images from noise: uint8 [3,...]"""
    return square_sheet(visible(draw_images(generator, range(seed, seed + MANY), resolution, alpha)))


def visible(images):
    """Enlarges small images uint8 [N,3,h,w] to 64 rows."""
    height, width = images.shape[2:]
    rows = max(64, height)
    return enlarge(images, rows, rows * width // height)


def scenes_sheet(pairs, store, seed: int = 0, num: int = 8):
    """One picture uint8 [3,...] of pairs (layout generator, SPADE generator), of which either may be None.

    For each pair layouts from noise above their images; then real layouts, the last SPADE's images of them, and the
    real images.
    """
    colours = torch.from_numpy(store.label_space.colours)
    seeds = range(seed, seed + num)

    def shown(layouts):
        return enlarge(colour_layouts(layouts, colours), store.height, store.width)

    rows = []
    for layout_generator, spade_generator in pairs:
        if layout_generator is not None:
            layouts = draw_layouts(layout_generator, seeds)
            rows.append(shown(layouts))
            if spade_generator is not None:
                rows.append(render(spade_generator, layouts, seeds))
    images, labels = spread_pairs(store[store.reference], num)
    rows.append(shown(labels))
    if pairs and pairs[-1][1] is not None:
        rows.append(render(pairs[-1][1], labels, range(seed, seed + len(labels))))
    return sheet([*rows, images])


def contact_sheet(models, store, seed: int):
    """One picture of what models draw, one below the other: uint8 [3,...]"""
    last = models[-1]
    if last.image_generator is not None:
        return images_sheet(last.image_generator, seed=seed)
    if last.layout_generator is None:
        return pictures(last.spade_generator, store, last.device, last.encoder)
    return scenes_sheet([(model.layout_generator, model.spade_generator) for model in models], store, seed)


def walk_frames(model: Model, seeds, frames: int, style=None):
    """uint8 [3,2*H,W] each: the layout above its image, through `model.walk`."""
    colours = torch.from_numpy(model.label_space.colours)
    for layouts, images in model.walk(seeds, frames, style):
        yield from torch.cat([enlarge(colour_layouts(layouts, colours), *images.shape[2:]), images], 2)


def save_animation(frames, path: Path, milliseconds: int = 60):
    """WebP, which browsers and image viewers play, repeated for ever."""
    pictures = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    with replacing(path) as temporary:
        options = dict(save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=90)
        pictures[0].save(temporary, format="WEBP", **options)
