"""Layouts that a person drew or edited, from label files."""

from pathlib import Path

import numpy as np
import torch

from datasets.errors import UserError
from datasets.files import LABEL_SUFFIXES, find_files, read_image, read_label, read_raw_ids
from SBGAN.model import Model
from SPADE.engine.images import from_uint8

KINDS = ("train_ids", "raw_ids", "colours")


def read_layout(path: Path, label_space, kind: str) -> np.ndarray:
    """train ids uint8 [H,W]. kind: how the file says classes; a colour-coded file is read by its colours anyway."""
    if kind != "train_ids":
        return read_label(path, label_space, palette="ids" if kind == "raw_ids" else "colours")
    try:
        labels = read_raw_ids(path)
    except UserError:
        return read_label(path, label_space)  # colours
    outside = labels >= label_space.num_classes
    if outside.any():
        raise UserError(
            f"{path}: id {int(labels.max())} and others at {int(outside.sum())} pixels, but train ids of "
            f"{label_space.name} are 0..{label_space.num_classes - 1}; mend the file, or say --layout_kind raw_ids"
        )
    return labels


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
