"""Layouts that a person drew or edited, from label files."""

from pathlib import Path

import numpy as np
import torch

from datasets.errors import UserError
from datasets.files import LABEL_SUFFIXES, raw_ids_of, read_image, read_label_pixels, read_sketch_pixels
from datasets.pairs import find_files
from SBGAN.model import Model
from SPADE.engine.images import from_uint8

KINDS = ("train_ids", "raw_ids", "colours")


def read_layout(path: Path, label_space, kind: str, nearest: bool = False) -> np.ndarray:
    """train ids uint8 [H,W]; arguments as of `classes_of`."""
    return classes_of(*read_label_pixels(path), path, label_space, kind, nearest)


def read_sketch(path: Path, label_space, kind: str, nearest: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """train ids uint8 [H,W], and where they are fixed bool [H,W]; elsewhere the file is transparent, or index 255."""
    pixels, palette, free = read_sketch_pixels(path)
    if free.all():
        raise UserError(f"{path}: every pixel is free; draw something, or leave the file out")
    return classes_of(pixels, palette, path, label_space, kind, nearest), ~free


def classes_of(pixels, palette, path: Path, label_space, kind: str, nearest: bool = False) -> np.ndarray:
    """Reads classes off what a file holds (see `read_label_pixels`): train ids uint8 [H,W].

    kind: how the file says classes; a colour-coded file is read by its colours anyway. nearest: a colour of no class is
    read as the class of the nearest one, and their pixels are counted aloud.
    """
    if pixels.ndim == 3:
        if nearest:
            pixels, moved = nearest_colours(pixels, label_space.colours)
            if moved:
                print(f"{path}: {moved} pixels of a colour that is no class are of the class of the nearest colour")
        return label_space.remap_colours(pixels, path)
    if palette is None and kind == "colours":
        raise UserError(f"{path}: ids in grey values, wanted colours; say --layout_kind train_ids or raw_ids")
    if palette is not None:
        if nearest and kind == "colours":
            return classes_of(palette[pixels], None, path, label_space, kind, nearest)
        if kind == "colours" or shows_classes(pixels, palette, label_space, kind):
            return label_space.classify_palette(pixels, palette, path)[0]
        if kind == "train_ids" and label_space.is_own_palette(pixels, palette):
            return pixels
    labels = raw_ids_of(pixels, palette, path)
    if kind == "raw_ids":
        return label_space.remap(labels, path)
    outside = labels >= label_space.num_classes
    if outside.any():
        raise UserError(
            f"{path}: id {int(labels.max())} and others at {int(outside.sum())} pixels, but train ids of "
            f"{label_space.name} are 0..{label_space.num_classes - 1}; mend the file, or say --layout_kind raw_ids"
        )
    return labels


def nearest_colours(rgb: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, int]:
    """Each pixel of uint8 [H,W,3] in the nearest of the colours uint8 [C,3], and how many pixels that changed."""
    found, where = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    distances = np.square(found[:, None].astype(int) - colours).sum(2)  # [colours found,C]
    mended = colours[distances.argmin(1)][where.reshape(rgb.shape[:2])]
    return mended, int((mended != rgb).any(2).sum())


def shows_classes(indices, palette, label_space, kind: str) -> bool:
    """Does a file with a palette say classes by its colours, as drawing programs do, and not by its indices?

    All its colours are of the table, and not merely there for show over ids.
    """
    for_show = True
    for i in np.unique(indices).tolist():
        by_index = label_space.classes_of_id(i) if kind == "raw_ids" else [i]
        by_colour = label_space.classes_of_colour(tuple(palette[i].tolist()))
        if not by_colour:
            return False
        for_show = for_show and bool(set(by_index) & set(by_colour))
    return not for_show


def read_layouts(folder: Path, model: Model, kind: str, nearest: bool = False) -> dict[str, torch.Tensor]:
    """File name without ending -> layout uint8 [1,1,h,w], all checked before the first is rendered."""
    layouts = {}
    for name, path in find_files(folder, LABEL_SUFFIXES).items():
        labels = read_layout(path, model.label_space, kind, nearest)
        check_size(labels, path, model)
        layouts[name] = torch.from_numpy(labels.copy())[None, None]
    return layouts


def read_sketches(folder: Path, model: Model, kind: str, nearest: bool = False) -> dict[str, tuple]:
    """File name without ending -> layout uint8 [1,h,w] and where it is fixed, bool [1,h,w]; all checked first."""
    sketches = {}
    for name, path in find_files(folder, LABEL_SUFFIXES).items():
        labels, fixed = read_sketch(path, model.label_space, kind, nearest)
        check_size(labels, path, model)
        if fixed.all():
            raise UserError(f"{path}: no pixel is free; make some transparent or 255, or pass --invert for its folder")
        sketches[name] = torch.from_numpy(labels.copy())[None], torch.from_numpy(fixed)[None]
    return sketches


def check_size(labels: np.ndarray, path: Path, model: Model):
    if labels.shape not in model.layout_sizes():
        wanted = " or ".join(f"{h}x{w}" for h, w in model.layout_sizes())
        raise UserError(f"{path}: {labels.shape[0]}x{labels.shape[1]} pixels, wanted {wanted}; resize it (nearest)")


def read_style(path: Path, model: Model):
    """The style [1,D] of an image file, by the model's style encoder."""
    if model.encoder is None:
        raise UserError(f"--style {path}: this checkpoint has no style encoder; train stage 2 with --use_vae")
    image = torch.from_numpy(read_image(path).copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        return model.encoder.eval()(from_uint8(image).to(model.device))[0]
