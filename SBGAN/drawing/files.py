"""Samples as files, each whole or not there, none overwritten unasked; and layouts that a person drew, from files."""

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets import files as disk
from datasets.errors import UserError
from datasets.files import LABEL_SUFFIXES, raw_ids_of, read_image, read_label_pixels, read_sketch_pixels
from datasets.labels import colourise, load_space
from datasets.pairs import find_files
from SBGAN.model import Model
from SPADE.engine.images import colour_layouts, enlarge, from_uint8
from SPADE.modulation import resize

NO_CLASS = 255  # a label's pixels of which no class is said, where the table has no class for that
REMEDY = "free space or name another place"
WAITING = 64  # pictures that may wait to be written; more would only fill the memory


def check_folder(folder: Path, overwrite: bool):
    """The folder must be new or empty. Raises UserError."""
    with disk.explained(folder, REMEDY):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--out {folder} is a file; name a folder")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"--out {folder} is not empty; name another, or pass --overwrite to replace files in it")


def check_file(path: Path, overwrite: bool):
    """The file must be new. Raises UserError."""
    with disk.explained(path, REMEDY):
        if path.is_dir():
            raise UserError(f"--out {path} is a folder; name a file")
        if path.exists() and not overwrite:
            raise UserError(f"--out {path} exists; name another file, or pass --overwrite to replace it")


@contextlib.contextmanager
def replacing(path: Path):
    """Does what `datasets.files.replacing` does; what the system says against writing becomes one sentence."""
    with disk.explained(path, REMEDY), disk.replacing(path) as temporary:
        yield temporary


def write_png(pixels: np.ndarray, path: Path, palette: np.ndarray | None = None):
    """uint8 [H,W] or [H,W,3]; with a palette uint8 [C,3], [H,W] are indices into it"""
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=4)


def walk_frames(model: Model, seeds, frames: int, style=None):
    """Yields the frames of `model.walk`, each a layout above its image: uint8 [3,2*H,W]."""
    colours = torch.from_numpy(model.label_space.colours)
    for layouts, images in model.walk(seeds, frames, style):
        yield from torch.cat([enlarge(colour_layouts(layouts, colours), *images.shape[2:]), images], 2)


def save_animation(frames, path: Path, milliseconds: int = 60):
    """Writes frames as an animated WebP that repeats for ever; browsers and image viewers play it."""
    pictures = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    with replacing(path) as temporary:
        options = dict(save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=90)
        pictures[0].save(temporary, format="WEBP", **options)


class Writer:
    """Writes PNGs in threads (compression is most of the work and runs beside the next batch)."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 8))
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
    """The files of samples in one folder, in one of FORMATS."""

    def __init__(self, out: Path, model, writer: Writer, form: str = "plain"):
        self.out, self.writer, self.form = out, writer, FORMATS[form]
        self.size, self.space = (model.data["height"], model.data["width"]), model.label_space
        self.colours = filled(self.space.colours, 0)
        self.raw_ids = first_raw_ids(self.space)

    def write(self, name: str, layout, image):
        """layout uint8 [1,h,w] (written at the image's size, so that the two are a pair), image uint8 [3,H,W]"""
        labels = np.ascontiguousarray(resize(layout[None], *self.size)[0, 0].numpy())
        self.form(self, name, labels, np.ascontiguousarray(image.permute(1, 2, 0).numpy()))

    def png(self, pixels, *place: str, palette=None):
        self.writer.png(pixels, self.out.joinpath(*place), palette)


def filled(values: np.ndarray, rest: int) -> np.ndarray:
    """[C,...] -> [256,...], with `rest` for what is no class."""
    return np.concatenate([values, np.full((256 - len(values), *values.shape[1:]), rest, np.uint8)])


def first_raw_ids(space) -> np.ndarray | None:
    """The first raw id of each train id, uint8 [256]; None where classes are known by colours."""
    listed = [c.raw_ids[0] if c.raw_ids else None for c in space.classes]
    return None if None in listed else filled(np.array(listed, np.uint8), NO_CLASS)


def write_plain(files: Files, name: str, labels, image):
    """Writes `images`, `layouts`, `colours` and `raw_ids`; --layouts can read each of them but the images."""
    colours, place = files.colours, f"{name}.png"
    files.png(image, "images", place)
    files.png(labels, "layouts", place, palette=colours)
    if files.space.has_own_colours:
        files.png(colourise(labels, colours), "colours", place)
    else:  # red, green and blue alone would not say which of the classes that share them
        files.png(labels, "colours", place, palette=colours)
    if files.raw_ids is not None:
        files.png(files.raw_ids[labels], "raw_ids", place)


def write_cityscapes(files: Files, name: str, labels, image):
    """Writes Cityscapes' folders and names, of a city called `generated`; its own train ids where the table is its."""
    stem = f"generated_{name.replace('_', '-').replace('/', '-')}_000000"
    files.png(image, "leftImg8bit", "train", "generated", f"{stem}_leftImg8bit.png")
    raw_ids = files.raw_ids[labels]
    files.png(raw_ids, "gtFine", "train", "generated", f"{stem}_gtFine_labelIds.png")
    space = files.space
    if space.name.startswith("cityscapes"):
        space = load_space("cityscapes_25k")  # the benchmark's classes, in its order
        labels, _ = space.classify(raw_ids, name)
    files.png(to_train_on(labels, space), "gtFine", "train", "generated", f"{stem}_gtFine_labelTrainIds.png")


def write_mmseg(files: Files, name: str, labels, image):
    """Writes mmsegmentation's folders: `images`, and `annotations` of train ids."""
    files.png(image, "images", "training", f"{name}.png")
    files.png(to_train_on(labels, files.space), "annotations", "training", f"{name}.png", palette=files.colours)


def to_train_on(labels, space) -> np.ndarray:
    """Train ids uint8 [H,W] with 255, which training code ignores, for unknown classes."""
    return np.where(np.isin(labels, space.unknown), np.uint8(NO_CLASS), labels)


FORMATS = {"plain": write_plain, "cityscapes": write_cityscapes, "mmseg": write_mmseg}


# --- Layouts that a person drew or edited ---

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

    Yes, if all its colours are in the table and do not just display the classes that the indices say.
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
