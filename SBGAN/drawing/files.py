"""Files of samples, written while the next batch is computed: each whole or not there, none overwritten unasked."""

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import disk
from datasets.errors import UserError
from datasets.labels import colourise, load_space
from SBGAN.discretize import resize

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
