"""Layouts that a person drew or edited, from label files."""

from pathlib import Path

import numpy as np
import torch

from datasets.errors import UserError
from datasets.files import LABEL_SUFFIXES, read_image, read_label_pixels, read_raw_ids
from datasets.pairs import find_files
from SBGAN.model import Model
from SPADE.engine.images import from_uint8

KINDS = ("train_ids", "raw_ids", "colours")


def read_layout(path: Path, label_space, kind: str) -> np.ndarray:
    """train ids uint8 [H,W]. kind: how the file says classes; a colour-coded file is read by its colours anyway."""
    pixels, palette = read_label_pixels(path)
    if pixels.ndim == 3:
        return label_space.remap_colours(pixels, path)
    if palette is None and kind == "colours":
        raise UserError(f"{path}: ids in grey values, wanted colours; say --layout_kind train_ids or raw_ids")
    if palette is not None:
        if kind == "colours" or shows_classes(pixels, palette, label_space, kind):
            return label_space.classify_palette(pixels, palette, path)[0]
        if kind == "train_ids" and label_space.is_own_palette(pixels, palette):
            return pixels
    labels = read_raw_ids(path)
    if kind == "raw_ids":
        return label_space.remap(labels, path)
    outside = labels >= label_space.num_classes
    if outside.any():
        raise UserError(
            f"{path}: id {int(labels.max())} and others at {int(outside.sum())} pixels, but train ids of "
            f"{label_space.name} are 0..{label_space.num_classes - 1}; mend the file, or say --layout_kind raw_ids"
        )
    return labels


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


def read_layouts(folder: Path, model: Model, kind: str) -> dict[str, torch.Tensor]:
    """File name without ending -> layout uint8 [1,1,h,w], all checked before the first is rendered."""
    sizes = {(model.data["height"], model.data["width"])}
    if model.layout_generator is not None:
        rows = model.layout_generator.max_resolution
        sizes.add((rows, rows * model.data["aspect"]))
    layouts = {}
    for name, path in find_files(folder, LABEL_SUFFIXES).items():
        labels = read_layout(path, model.label_space, kind)
        if labels.shape not in sizes:
            wanted = " or ".join(f"{h}x{w}" for h, w in sorted(sizes, reverse=True))
            raise UserError(f"{path}: {labels.shape[0]}x{labels.shape[1]} pixels, wanted {wanted}; resize it (nearest)")
        layouts[name] = torch.from_numpy(labels.copy())[None, None]
    return layouts


def read_style(path: Path, model: Model):
    """The style [1,D] of an image file, by the model's style encoder."""
    if model.encoder is None:
        raise UserError(f"--style {path}: this checkpoint has no style encoder; train stage 2 with --use_vae")
    image = torch.from_numpy(read_image(path).copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        return model.encoder.eval()(from_uint8(image).to(model.device))[0]
