"""Pictures of what models draw, and files of samples: each whole or not there, none overwritten unasked."""

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
from datasets.labels import colourise, load_space
from SBGAN.discretize import resize
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


# --- Files, written while the next batch is computed ---

NO_CLASS = 255  # a label's pixels of which no class is said, where the table has no class for that
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
    """The files of samples in one folder, in one of FORMATS."""

    def __init__(self, out: Path, model, writer: Writer, form: str = "plain"):
        self.out, self.writer, self.form = out, writer, FORMATS[form]
        self.size, self.space = (model.data["height"], model.data["width"]), model.label_space
        self.colours = filled(self.space.colours, 0)
        self.raw_ids = raw_ids_of(self.space)

    def write(self, name: str, layout, image):
        """layout uint8 [1,h,w] (written at the image's size, so that the two are a pair), image uint8 [3,H,W]"""
        labels = np.ascontiguousarray(resize(layout[None], *self.size)[0, 0].numpy())
        self.form(self, name, labels, np.ascontiguousarray(image.permute(1, 2, 0).numpy()))

    def png(self, pixels, *place: str, palette=None):
        self.writer.png(pixels, self.out.joinpath(*place), palette)


def filled(values: np.ndarray, rest: int) -> np.ndarray:
    """[C,...] -> [256,...], with `rest` for what is no class."""
    return np.concatenate([values, np.full((256 - len(values), *values.shape[1:]), rest, np.uint8)])


def raw_ids_of(space) -> np.ndarray | None:
    """The first raw id of each train id, uint8 [256]; None where classes are known by colours."""
    listed = [c.raw_ids[0] if c.raw_ids else None for c in space.classes]
    return None if None in listed else filled(np.array(listed, np.uint8), NO_CLASS)


def write_plain(files: Files, name: str, labels, image):
    """`images`, `layouts`, `colours` and `raw_ids`; each but the image can be given back by --layouts."""
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
    """Cityscapes' folders and names, of a city called `generated`; its train ids where the table is one of its own."""
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
    """mmsegmentation's `images` and `annotations`, of train ids."""
    files.png(image, "images", "training", f"{name}.png")
    files.png(to_train_on(labels, files.space), "annotations", "training", f"{name}.png", palette=files.colours)


def to_train_on(labels, space) -> np.ndarray:
    """Train ids uint8 [H,W] with 255, which training code ignores, for unknown classes."""
    return np.where(np.isin(labels, space.unknown), np.uint8(NO_CLASS), labels)


FORMATS = {"plain": write_plain, "cityscapes": write_cityscapes, "mmseg": write_mmseg}
