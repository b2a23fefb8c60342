"""Pairs to train a segmentation network on: real ones of a store, generated ones of a folder or of a checkpoint.

Which pairs a batch holds is a pure function of the images seen, as with all readers here.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.errors import UserError
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, read_image, read_label_pixels
from datasets.pairs import find_pairs, pair_up
from datasets.reader import Reader
from SBGAN.drawing.files import NO_CLASS
from SBGAN.model import Model
from SPADE.engine.distributed import from_first, rank, world_size
from SPADE.modulation import resize

DRAWN_FROM = 1 << 32  # the first seed of pairs that are drawn to be trained on: far from those that scores draw


@dataclass(frozen=True)
class Mixture:
    """Batches of which a share is generated: draw number k is, where floor((k + 1) * mix) is more than floor(k * mix).

    real, generated: (first, count) -> images uint8 [count,3,H,W], train ids uint8 [count,1,H,W]: draws of each kind.
    """

    real: Callable | None
    generated: Callable | None
    mix: float

    def pairs(self, images_seen: int, batch_size: int):
        """This process's part of the batch, real pairs first."""
        share = batch_size // world_size()
        first = images_seen + rank() * share
        before, after = math.floor(first * self.mix), math.floor((first + share) * self.mix)
        parts = []
        if after - before < share:
            parts.append(self.real(first - before, share - (after - before)))
        if after > before:
            parts.append(self.generated(before, after - before))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def from_split(split, seed: int) -> Callable:
    """Shuffled, cropped and flipped draws of a store's split, or of `PairsFolder`."""
    return Reader(split, seed).pairs


def from_model(model: Model, seed: int, height: int, width: int) -> Callable:
    """Pairs that are drawn when they are needed, each one once."""

    def draw(first, count):
        begin = DRAWN_FROM * (seed % 2**30 + 1) + first
        layouts, images = model.sample(range(begin, begin + count))
        return images, resize(layouts, height, width)

    return draw


class PairsFolder:
    """A folder that SBGAN.generate wrote, in the form of a store's split: `images` and `layouts` of the same names."""

    def __init__(self, folder: Path, store):
        """Looks at every label. Raises UserError."""
        parts = [folder / "images", folder / "layouts"]
        found = pair_up(*find_pairs(*parts, (IMAGE_SUFFIXES, LABEL_SUFFIXES)))
        self.name, self.height, self.width, self.aspect = str(folder), store.height, store.width, store.aspect
        self.names, self.images, self.labels = (list(part) for part in zip(*found, strict=True))
        self.weights, self.num_classes = [1] * len(found), store.label_space.num_classes
        self.table = store.label_space.name
        for i in range(len(found)):
            self.layout(i)

    def __len__(self) -> int:
        return len(self.names)

    def size(self, i: int) -> tuple[int, int]:
        """Every pair has the store's."""
        return self.height, self.width

    def image(self, i: int) -> np.ndarray:
        """uint8 [3,H,W]"""
        return self.checked(read_image(self.images[i]), self.images[i]).transpose(2, 0, 1)

    def layout(self, i: int) -> np.ndarray:
        """train ids uint8 [H,W], NO_CLASS where no class is said"""
        path = self.labels[i]
        ids, _ = read_label_pixels(path)
        if ids.ndim == 3:
            raise UserError(f"{path}: colours, wanted train ids; give the folder that SBGAN.generate wrote")
        outside = (ids >= self.num_classes) & (ids != NO_CLASS)
        if outside.any():
            raise UserError(
                f"{path}: id {int(ids[outside][0])} at {int(outside.sum())} pixels, but train ids of {self.table} are "
                f"0..{self.num_classes - 1}, and {NO_CLASS} for none; mend the file, or take pairs of this data set"
            )
        return self.checked(ids, path)

    def checked(self, pixels: np.ndarray, path: Path) -> np.ndarray:
        if pixels.shape[:2] != (self.height, self.width):
            raise UserError(
                f"{path}: {pixels.shape[0]}x{pixels.shape[1]} pixels, wanted {self.height}x{self.width} as in --store; "
                "generate pairs with a model of that size"
            )
        return pixels

    @property
    def digest(self) -> str:
        """Of names and sizes of the files: a run is continued on the same pairs only."""
        files = [(path.name, path.stat().st_size) for path in (*self.images, *self.labels)]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def open_folder(path: str, store) -> PairsFolder:
    """All processes; the first looks for mistakes before the others read anything."""
    folder = Path(path)
    if not (folder / "images").is_dir() or not (folder / "layouts").is_dir():
        raise UserError(f"--pairs {folder}: no `images` and `layouts` in it; give a folder that SBGAN.generate wrote")
    return from_first(PairsFolder, folder, store)
