"""Pairs to train a segmentation network on: real ones, generated ones, and which of these one can trust.

Real pairs are a store's, generated ones a folder's or a checkpoint's. Which pairs a batch holds is a pure function of
the images seen, as with all readers here.
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
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, image_size, read_image, read_label_pixels
from datasets.labels import LabelSpace
from datasets.pairs import find_pairs, pair_up
from datasets.reader import Reader
from SBGAN.drawing.files import NO_CLASS, Files
from SBGAN.model import Model
from SPADE.engine.config import require
from SPADE.engine.distributed import from_first, rank, world_size
from SPADE.modulation import resize
from SPADE.segmenter import Segmenter, open_segmenter

DRAWN_FROM = 1 << 32  # the first seed of pairs that are drawn to be trained on: far from those that scores draw


@dataclass(frozen=True)
class Mixture:
    """Batches of real and generated pairs: draw number k is generated where floor((k + 1) * mix) > floor(k * mix).

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
    """Pairs that the model draws when they are needed; none comes twice."""

    def draw(first, count):
        begin = DRAWN_FROM * (seed % 2**30 + 1) + first
        layouts, images = model.sample(range(begin, begin + count))
        return images, resize(layouts, height, width)

    return draw


class PairsFolder:
    """A folder that SBGAN.generate wrote, in the form of a store's split: `images` and `layouts` of the same names."""

    def __init__(self, folder: Path, store):
        """Looks at every label, and at the size of every image. Raises UserError."""
        parts = [folder / "images", folder / "layouts"]
        found = pair_up(*find_pairs(*parts, (IMAGE_SUFFIXES, LABEL_SUFFIXES)))
        self.name, self.height, self.width, self.aspect = str(folder), store.height, store.width, store.aspect
        self.names, self.images, self.labels = (list(part) for part in zip(*found, strict=True))
        self.weights, self.num_classes = [1] * len(found), store.label_space.num_classes
        self.table = store.label_space.name
        check_classes(folder, store.label_space)
        says_nothing = True
        for i in range(len(found)):
            self.checked(image_size(self.images[i]), self.images[i])
            says_nothing &= bool((self.layout(i) == NO_CLASS).all())
        if says_nothing:
            raise UserError(f"--pairs {folder}: no pixel of its layouts says a class; take pairs with some")

    def __len__(self) -> int:
        return len(self.names)

    def size(self, i: int) -> tuple[int, int]:
        """Every pair has the store's."""
        return self.height, self.width

    def image(self, i: int) -> np.ndarray:
        """uint8 [3,H,W]"""
        pixels = read_image(self.images[i])
        self.checked(pixels.shape[:2], self.images[i])
        return pixels.transpose(2, 0, 1)

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
        self.checked(ids.shape, path)
        return ids

    def checked(self, size: tuple[int, int], path: Path):
        if size != (self.height, self.width):
            raise UserError(
                f"{path}: {size[0]}x{size[1]} pixels, wanted {self.height}x{self.width} as in --store; "
                "generate pairs with a model of that size"
            )

    @property
    def digest(self) -> str:
        """Hash of names and sizes of the files: a run is continued on the same pairs only."""
        files = [(path.name, path.stat().st_size) for path in (*self.images, *self.labels)]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def check_classes(folder: Path, space: LabelSpace):
    """Refuses pairs of another table: its ids may be ids here, too. Folders without about.json go unseen."""
    try:
        classes = json.loads((folder / "about.json").read_text())["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if classes != list(space.names):
        theirs, ours = (", ".join(map(str, names)) for names in (classes, space.names))
        raise UserError(
            f"--pairs {folder}: pairs of the classes {theirs}, wanted those of --store, {ours}; draw them with a model "
            "of that data set"
        )


def open_folder(path: str, store) -> PairsFolder:
    """All processes; the first looks for mistakes before the others read anything."""
    folder = Path(path)
    if not (folder / "images").is_dir() or not (folder / "layouts").is_dir():
        raise UserError(f"--pairs {folder}: no `images` and `layouts` in it; give a folder that SBGAN.generate wrote")
    return from_first(PairsFolder, folder, store)


# --- Pairs one can trust: which a segmentation network agrees with, and which of their pixels it doubts ---
#
# Leaving out what a network trained on real pairs finds unlikely is what makes generated pairs useful (Yang et al.,
# *FreeMask*, NeurIPS 2023, section 3.3).

DOUBTED = 0.1  # of each class's pixels, where nobody says another share
MEASURED = 64  # pairs, at most, that are drawn to find out how much surprise is usual


@dataclass(frozen=True)
class Trust:
    """What `--keep_aligned` and `--doubtful` ask of pairs: layouts uint8 [N,1,H,W], images uint8 [N,3,H,W]."""

    segmenter: Segmenter
    device: torch.device
    least: float | None  # share of pixels, or of each class's, that the segmenter must agree with
    by_class: bool
    doubtful: int | None  # what is written where it doubts
    usual: torch.Tensor | None  # float [256]: of each class, the surprise (-log p) that is beyond doubt

    def kept(self, layouts, images) -> list[int]:
        """The numbers of the pairs that the segmenter agrees with enough; layouts are of the images' size."""
        if self.least is None:
            return list(range(len(layouts)))
        agreement = agreements(self.segmenter, layouts, images, self.by_class, self.device)
        return (agreement >= self.least).nonzero()[:, 0].tolist()

    def marked(self, layouts, images):
        """The layouts, with the doubtful id where the segmenter doubts most."""
        if self.doubtful is None or not len(layouts):
            return layouts
        surprise = self.segmenter.surprise(images, layouts, self.device)
        return torch.where(surprise > self.usual[layouts.long()], self.doubtful, layouts)


def write_pairs(files: Files, trust: Trust | None, names: list[str], layouts, images) -> int:
    """Writes the pairs that are trusted, or all; returns how many. Layouts may be smaller than the images."""
    if trust and names:
        layouts = resize(layouts, *images.shape[-2:])
        chosen = trust.kept(layouts, images)
        names, layouts, images = [names[i] for i in chosen], layouts[chosen], images[chosen]
        layouts = trust.marked(layouts, images)
    for name, layout, image in zip(names, layouts, images, strict=True):
        files.write(name, layout, image)
    return len(names)


def agreements(segmenter: Segmenter, layouts, images, by_class: bool, device) -> torch.Tensor:
    """The share of each pair's pixels that the segmenter sees as the layout says, or the least share of a class that
    occurs: float [N]. Pixels of classes that it does not score are left out; 0 where none is left."""
    scored = torch.zeros(256, dtype=torch.bool)
    scored[list(segmenter.scored)] = True
    counted = scored[layouts.long()].flatten(1)  # [N,H*W]
    agree = counted & (segmenter.predict(images, device) == layouts).flatten(1)
    if not by_class:
        return agree.sum(1) / counted.sum(1).clamp(min=1)
    ids = layouts.flatten(1).long()
    pixels, right = (torch.zeros(len(ids), 256).scatter_add_(1, ids, mask.float()) for mask in (counted, agree))
    shares = torch.where(pixels > 0, right / pixels, torch.inf).amin(1)  # [N] of [N,256]
    return torch.where(shares.isfinite(), shares, 0)


def usual_surprise(segmenter: Segmenter, layouts, images, share: float, device) -> torch.Tensor:
    """The surprise, for each class, that all but a share of its pixels stay below, float [256]."""
    surprise, usual = segmenter.surprise(images, layouts, device), torch.full((256,), torch.inf)
    for train_id in set(layouts.unique().tolist()) & set(segmenter.scored):
        values = surprise[layouts == train_id].sort().values
        usual[train_id] = values[min(int(len(values) * (1 - share)), len(values) - 1)]
    return usual


def unknown_id(space: LabelSpace) -> int:
    """The id of a doubtful pixel: the table's unknown class, or an id of no class, which training code ignores."""
    return space.unknown[0] if space.unknown else NO_CLASS


def check_trust(config):
    """Refuses flags that have no effect without others. Raises UserError."""
    asked = [flag for flag in ("keep_aligned", "doubtful") if getattr(config, flag) is not None]
    require(config.segmenter or not asked, asked and asked[0], "given", "given with --segmenter", "name one")
    for flag, of, default in (("keep_aligned_by", "keep_aligned", "pixel"), ("doubtful_share", "doubtful", DOUBTED)):
        found = getattr(config, flag)
        require(found == default or of in asked, flag, found, f"given with --{of}", "add that, or leave it out")
    require(asked or not config.segmenter, "segmenter", "given", "given with --keep_aligned or --doubtful", "add one")
    for flag in ("grid", "interpolate", "complete", "invert", "shares"):
        require(not (asked and getattr(config, flag)), asked and asked[0], "given", f"left out beside --{flag}",
                "it is of pairs to train on")  # fmt: skip


def open_trust(config, model: Model, draw) -> Trust | None:
    """Opens the segmenter that the flags ask for; None without one.

    draw: number -> so many layouts of the images' size, and their images.
    """
    segmenter = open_segmenter(config, model.data, model.device)
    if segmenter is None:
        return None
    usual = doubtful = None
    if config.doubtful is not None:
        doubtful = unknown_id(model.label_space)
        blank = torch.zeros(1, 3, model.data["height"], model.data["width"], dtype=torch.uint8)
        segmenter.surprise(blank, blank[:, :1], model.device)  # refuses one that gives ids before anything is drawn

        def measure():
            pairs = draw(min(config.num, MEASURED))
            return usual_surprise(segmenter, *pairs, config.doubtful_share, model.device)

        usual = from_first(measure)
    return Trust(segmenter, model.device, config.keep_aligned, config.keep_aligned_by == "class", doubtful, usual)
