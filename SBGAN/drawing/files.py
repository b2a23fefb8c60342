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
from datasets.labels import colourise
from SBGAN.discretize import resize

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
