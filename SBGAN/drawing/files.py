"""Files that drawing writes and reads: samples, whole or not there, none overwritten unasked; and given layouts."""

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets import disk
from datasets.errors import UserError
from datasets.files import LABEL_SUFFIXES, read_image, read_label_pixels, read_raw_ids
from datasets.labels import colourise
from datasets.pairs import find_files
from SBGAN.discretize import resize
from SBGAN.model import Model
from SPADE.engine.images import from_uint8

REMEDY = "free space or name another place"
WAITING = 64  # pictures that may wait to be written; more would only fill the memory


def check_folder(folder: Path, overwrite: bool, flag: str = "out"):
    """The folder must be new or empty. Raises UserError."""
    with disk.explained(folder, REMEDY):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--{flag} {folder} is a file; name a folder")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"--{flag} {folder} is not empty; name another, or pass --overwrite to replace files in it")


def check_file(path: Path, overwrite: bool, flag: str = "out"):
    """The file must be new. Raises UserError."""
    with disk.explained(path, REMEDY):
        if path.is_dir():
            raise UserError(f"--{flag} {path} is a folder; name a file")
        if path.exists() and not overwrite:
            raise UserError(f"--{flag} {path} exists; name another file, or pass --overwrite to replace it")


@contextlib.contextmanager
def replacing(path: Path):
    """disk.replacing, with one sentence for what the system says against it."""
    with disk.explained(path, REMEDY), disk.replacing(path) as temporary:
        yield temporary


def write_png(pixels: np.ndarray, path: Path, palette: np.ndarray | None = None):
    """uint8 [H,W] or [H,W,3]; with a palette uint8 [C,3], [H,W] are indices into it"""
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=4)


class Writer:
    """Writes PNGs in threads (compression is most of the work and runs beside the next batch)."""

    def __init__(self, threads: int | None = None):
        self.pool = ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 8))
        self.waiting = deque()

    def png(self, pixels: np.ndarray, path: Path, palette: np.ndarray | None = None):
        self.waiting.append(self.pool.submit(write_png, pixels, path, palette))
        while len(self.waiting) > WAITING or (self.waiting and self.waiting[0].done()):
            self.waiting.popleft().result()  # raises here what went wrong there

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            while kind is None and self.waiting:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


class Files:
    """The files of samples in one folder. Each of them but the image can be given back by --layouts."""

    def __init__(self, out: Path, model, writer: Writer):
        self.out, self.writer = out, writer
        self.size, self.space = (model.data["height"], model.data["width"]), model.label_space
        listed = [c.raw_ids[0] if c.raw_ids else None for c in self.space.classes]
        self.raw_ids = None if None in listed else np.array(listed, np.uint8)  # train id -> raw id

    def write(self, name: str, layout, image):
        """layout uint8 [1,h,w] (written at the image's size, so that the two are a pair), image uint8 [3,H,W]"""
        labels = np.ascontiguousarray(resize(layout[None], *self.size)[0, 0].numpy())
        colours, place = self.space.colours, f"{name}.png"
        self.writer.png(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), self.out / "images" / place)
        self.writer.png(labels, self.out / "layouts" / place, colours)
        if self.space.has_own_colours:
            self.writer.png(colourise(labels, colours), self.out / "colours" / place)
        else:  # red, green and blue alone would not say which of the classes that share them
            self.writer.png(labels, self.out / "colours" / place, colours)
        if self.raw_ids is not None:
            self.writer.png(self.raw_ids[labels], self.out / "raw_ids" / place)


# --- Layouts that a person drew or edited, from label files ---

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
