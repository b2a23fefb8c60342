"""The packed store: a directory with memory-mapped uint8 images and labels per split, and one index.

    STORE/index.json       names, sizes, weights, checksums, label space; written last, checked on opening
    STORE/SPLIT.images.u8  images one after another, each [3,h,w]
    STORE/SPLIT.labels.u8  their train ids one after another, each [h,w]

Images of one store may have different sizes (none smaller than height x width, the size that is trained on).
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.labels import LabelSpace

FORMAT = "packed layouts and images"
VERSION = 1
INDEX = "index.json"
PREPARE_AGAIN = "delete the store and prepare it again with python -m datasets.prepare"

# Mapped pages count as resident memory until they are given back; the system's cache keeps their content.
MAX_RESIDENT_BYTES = 128 << 20


class MappedFile:
    """uint8 arrays lying one after another in a file, read through a memory map."""

    def __init__(self, path: Path, shapes: list[tuple[int, ...]]):
        self.shapes = shapes
        self._starts = np.cumsum([0] + [int(np.prod(shape)) for shape in shapes])
        self._bytes_served = 0
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, i: int) -> np.ndarray:
        """A read-only view, nothing is copied."""
        start, stop = int(self._starts[i]), int(self._starts[i + 1])
        self._bytes_served += stop - start
        if self._bytes_served > MAX_RESIDENT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._bytes_served = 0
        return np.frombuffer(self._map, np.uint8, stop - start, start).reshape(self.shapes[i])


class Picked:
    """Some of the arrays of a mapped file, numbered anew."""

    def __init__(self, file: MappedFile, numbers: list[int]):
        self.file, self.numbers = file, numbers
        self.shapes = [file.shapes[i] for i in numbers]

    def __getitem__(self, i: int) -> np.ndarray:
        return self.file[self.numbers[i]]


@dataclass(frozen=True)
class Split:
    """`len(split)` image/label pairs, all at least height x width (the size that is trained on)."""

    name: str
    height: int
    width: int
    names: list[str]
    weights: list[int]  # how many times as often as weight 1 an image is drawn
    crc32: list[int]  # of image bytes, then label bytes
    images: MappedFile | Picked
    layouts: MappedFile | Picked

    def __len__(self) -> int:
        return len(self.names)

    @property
    def aspect(self) -> int:
        return self.width // self.height

    @property
    def draws_per_epoch(self) -> int:
        return sum(self.weights)

    def size(self, i: int) -> tuple[int, int]:
        """(height, width) of pair i"""
        return self.layouts.shapes[i]

    def image(self, i: int) -> np.ndarray:
        """uint8 [3,h,w], a view"""
        return self.images[i]

    def layout(self, i: int) -> np.ndarray:
        """train ids uint8 [h,w], a view"""
        return self.layouts[i]


def numbers_of_share(count: int, share: float) -> list[int]:
    """The numbers below `count` that a share of them is made of, evenly spread: neighbours in a video are alike."""
    wanted = int(count * share + 0.5)
    return [i for i in range(count) if (i + 1) * wanted // count > i * wanted // count]


def share_of(split: Split, share: float) -> Split:
    """The split with a share of its pairs. Raises UserError where none is left."""
    numbers = numbers_of_share(len(split), share)
    if not numbers:
        raise UserError(f"--share {share:g} leaves none of {len(split)} pairs; take a larger share")

    def pick(values):
        return [values[i] for i in numbers]

    lists = {"names": pick(split.names), "weights": pick(split.weights), "crc32": pick(split.crc32)}
    return replace(split, images=Picked(split.images, numbers), layouts=Picked(split.layouts, numbers), **lists)


@dataclass(frozen=True)
class Store:
    path: Path
    name: str  # of the data set
    label_space: LabelSpace
    height: int
    width: int
    reference: str  # the split that scores are measured against
    splits: dict[str, Split]

    @property
    def aspect(self) -> int:
        return self.width // self.height

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            raise UserError(f"{self.path}: no split '{split}', only {', '.join(self.splits)}; prepare one that has it")
        return self.splits[split]


def open_store(path: str | Path) -> Store:
    path = Path(path)
    index = _read_index(path)
    splits = {name: _open_split(path, name, entry, index) for name, entry in index["splits"].items()}
    label_space = LabelSpace.from_dict(index["label_space"], where=str(path / INDEX))
    return Store(path, index["name"], label_space, index["height"], index["width"], index["reference"], splits)


def index_checksum(index: dict) -> str:
    """SHA-256 of everything in the index but the checksum itself: an index edited by hand no longer fits its data."""
    rest = {key: value for key, value in index.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_index(store: Path) -> dict:
    path = store / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "has no index.json, so it is no packed store" if store.is_dir() else "no such store"
        raise UserError(f"{store}: {what}; make one with python -m datasets.prepare NAME --out {store}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend its permissions") from None
    except ValueError:
        raise UserError(f"{path}: damaged, not JSON; {PREPARE_AGAIN}") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"{path}: not the index of a packed store; {PREPARE_AGAIN}")
    if index.get("version") != VERSION:
        raise UserError(f"{path}: store version {index.get('version')}, this code reads {VERSION}; "
                        "prepare the store again, or use the code that wrote it")  # fmt: skip
    if index.get("checksum") != index_checksum(index):
        raise UserError(f"{path}: changed since it was written (its checksum differs); {PREPARE_AGAIN}")
    return index


def _open_split(store: Path, name: str, entry: dict, index: dict) -> Split:
    height, width, count = index["height"], index["width"], len(entry["names"])
    sizes = entry.get("sizes") or [[height, width]] * count
    shapes = {"images": [(3, h, w) for h, w in sizes], "labels": [(h, w) for h, w in sizes]}
    for kind in shapes:
        path = store / entry[kind]["file"]
        found = path.stat().st_size if path.is_file() else None
        if found != entry[kind]["bytes"]:
            found = "missing" if found is None else f"{found} bytes long"
            raise UserError(f"{path}: {found}, not {entry[kind]['bytes']} bytes as the index says; {PREPARE_AGAIN}")
    try:
        files = {kind: MappedFile(store / entry[kind]["file"], shapes[kind]) for kind in shapes}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions") from None
    weights = entry.get("weights") or [1] * count
    return Split(name, height, width, entry["names"], weights, entry["crc32"], files["images"], files["labels"])
