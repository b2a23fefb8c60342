"""Files that go out while the next batch is computed: each whole or not there, none overwritten unasked."""

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import disk
from datasets.errors import UserError

WAITING = 64  # pictures that may wait to be written; more would only fill the memory


@contextlib.contextmanager
def explained(path: Path):
    """Turns what the system says against writing `path` into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} cannot be written ({reason}); free space or name another place") from error


def check_folder(folder: Path, overwrite: bool, flag: str = "out"):
    """The folder must be new or empty. Raises UserError."""
    with explained(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--{flag} {folder} is a file; name a folder")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"--{flag} {folder} is not empty; name another, or pass --overwrite to replace files in it")


def check_file(path: Path, overwrite: bool, flag: str = "out"):
    """The file must be new. Raises UserError."""
    with explained(path):
        if path.is_dir():
            raise UserError(f"--{flag} {path} is a folder; name a file")
        if path.exists() and not overwrite:
            raise UserError(f"--{flag} {path} exists; name another file, or pass --overwrite to replace it")


@contextlib.contextmanager
def replacing(path: Path):
    """disk.replacing, with one sentence for what the system says against it."""
    with explained(path), disk.replacing(path) as temporary:
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
