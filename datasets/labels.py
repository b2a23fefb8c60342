"""Label spaces: which classes a data set has, their names and colours, and which raw ids become which class."""

from __future__ import annotations

import colorsys
import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.errors import UserError

if TYPE_CHECKING:  # preparing data needs no torch, and importing it takes seconds
    import torch

SPACES_DIR = Path(__file__).parent / "spaces"


class OutsideTable(UserError):
    """A label file with ids or colours that its table does not have."""

    def __init__(self, message: str, pixels: int = 0):
        super().__init__(message)
        self.pixels = pixels


@dataclass(frozen=True)
class LabelClass:
    train_id: int
    name: str
    colour: tuple[int, int, int]  # 0..255, red green blue
    raw_ids: tuple[int, ...] = ()  # ids in the label files; none: the class is known by its colour alone


@dataclass(frozen=True)
class LabelSpace:
    name: str
    classes: tuple[LabelClass, ...]  # position = train id
    unlisted: str | int = "error"  # raw ids and colours outside the table: "error", or the train id they become

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    @property
    def colours(self) -> np.ndarray:
        """uint8 [C,3]"""
        return np.array([c.colour for c in self.classes], dtype=np.uint8)

    @property
    def has_own_colours(self) -> bool:
        """Does every class have a colour that no other has?"""
        return len({c.colour for c in self.classes}) == self.num_classes

    @property
    def has_raw_ids(self) -> bool:
        return any(c.raw_ids for c in self.classes)

    @property
    def hash(self) -> str:
        """Of the whole table: two networks fit together only if theirs are equal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict:
        """Plain types only, for JSON and for torch.load(weights_only=True)."""
        classes = [
            {"train_id": c.train_id, "name": c.name, "colour": list(c.colour), "raw_ids": list(c.raw_ids)}
            for c in self.classes
        ]
        return {"name": self.name, "unlisted": self.unlisted, "classes": classes}

    @classmethod
    def from_dict(cls, table: dict, where: str = "label space") -> LabelSpace:
        """Checks the table; `where` is the file to name when it is wrong."""
        return _checked_space(table, where)

    def remap(self, raw: np.ndarray, path) -> np.ndarray:
        """raw ids uint8 [H,W] -> train ids uint8 [H,W]; `path` is the file to name when an id isn't in the table."""
        lookup, listed = self._by_raw_id
        if self.unlisted == "error":
            counts = np.bincount(raw.reshape(-1), minlength=256)
            unknown = np.flatnonzero((counts > 0) & ~listed).tolist()
            self._refuse_unlisted("id", {i: int(counts[i]) for i in unknown}, path)
        return lookup[raw]

    def remap_colours(self, rgb: np.ndarray, path) -> np.ndarray:
        """Colour-coded labels uint8 [H,W,3] -> train ids uint8 [H,W]."""
        packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)  # [H,W]
        found, where, counts = np.unique(packed, return_inverse=True, return_counts=True)
        colours = [(value >> 16, value >> 8 & 255, value & 255) for value in found.tolist()]
        owners = [self.classes_of_colour(colour) for colour in colours]
        for colour, classes in zip(colours, owners, strict=True):
            if len(classes) > 1:
                shared = " and ".join(f"'{self.classes[i].name}'" for i in classes)
                raise UserError(
                    f"{path}: colour {colour} means {shared} in the label table '{self.name}'; "
                    "give every class its own colour, or label by id"
                )
        if self.unlisted == "error":
            unknown = {colours[k]: int(counts[k]) for k in range(len(colours)) if not owners[k]}
            self._refuse_unlisted("colour", unknown, path)
        train_ids = np.array([classes[0] if classes else self.unlisted for classes in owners], dtype=np.uint8)
        return train_ids[where.reshape(packed.shape)]

    def remap_palette(self, indices: np.ndarray, palette: np.ndarray, path) -> np.ndarray:
        """Palette indices uint8 [H,W], colours uint8 [256,3] -> train ids uint8 [H,W], by the colours shown."""
        if self.is_own_palette(indices, palette):  # then shared colours are no riddle
            return indices
        return self.remap_colours(palette[indices], path)

    def is_own_palette(self, indices: np.ndarray, palette: np.ndarray) -> bool:
        """Is it the form that layouts are written in: index = train id, shown in the colour of its class?"""
        used = np.unique(indices)
        return bool(used[-1] < self.num_classes and (palette[used] == self.colours[used]).all())

    def _refuse_unlisted(self, kind: str, pixels: dict, path) -> None:
        """`pixels`: id or colour that isn't in the table -> how many pixels have it"""
        if not pixels:
            return
        most = sorted(pixels, key=pixels.get, reverse=True)
        found = ", ".join(f"{kind} {value} at {pixels[value]} pixels" for value in most[:5])
        more = f" and {len(most) - 5} more {kind}s" if len(most) > 5 else ""
        raise OutsideTable(
            f"{path}: {found}{more}, not in the label table '{self.name}'; "
            f"mend the file, add the {kind} to the table, or set the table's 'unlisted' to a train id",
            sum(pixels.values()),
        )

    def classes_of_colour(self, colour: tuple[int, int, int]) -> list[int]:
        """The train ids shown in this colour: none, one, or (then labels can't be read by it) several."""
        return [c.train_id for c in self.classes if c.colour == colour]

    def classes_of_id(self, raw_id: int) -> list[int]:
        """The train id that lists this raw id, if one does."""
        return [c.train_id for c in self.classes if raw_id in c.raw_ids]

    @functools.cached_property
    def _by_raw_id(self) -> tuple[np.ndarray, np.ndarray]:
        """(train id of each raw id uint8 [256], whether the raw id is listed bool [256])"""
        lookup = np.full(256, 0 if self.unlisted == "error" else self.unlisted, dtype=np.uint8)
        listed = np.zeros(256, dtype=bool)
        for c in self.classes:
            for raw_id in c.raw_ids:
                lookup[raw_id] = c.train_id
                listed[raw_id] = True
        return lookup, listed


def load_space(name_or_file: str | Path) -> LabelSpace:
    """A table that comes with the code, by name, or one's own, by JSON file."""
    path = SPACES_DIR / f"{name_or_file}.json"
    if not os.path.isfile(path):
        path = Path(name_or_file)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in SPACES_DIR.glob("*.json")))
        raise UserError(f"{path}: no such label table; give a JSON file or one of {known}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the label table ({error.strerror}); give a readable JSON file") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{path}: not a JSON file ({error}); see datasets/spaces/ for the form of a table") from None
    return LabelSpace.from_dict(table, where=str(path))


def distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours for classes that were given none: hues a golden angle apart, in three brightnesses."""
    return [
        tuple(round(255 * v) for v in colorsys.hsv_to_rgb(k * 0.618034 % 1, (0.9, 0.55, 0.75)[k % 3], 1 - k % 4 * 0.2))
        for k in range(count)
    ]


def colourise(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """train ids uint8 [...,H,W], colours uint8 [C,3] -> uint8 [...,H,W,3]"""
    return colours[labels]


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """train ids uint8 [N,1,H,W] -> float32 [N,C,H,W], made on the labels' device."""
    n, _, height, width = labels.shape
    return labels.new_zeros((n, num_classes, height, width)).scatter_(1, labels.long(), 1).float()


def _checked_space(table: dict, where: str) -> LabelSpace:
    def refuse(found: str, wanted: str):
        raise UserError(f"{where}: {found}; {wanted}")

    if not isinstance(table, dict) or not isinstance(table.get("classes"), list) or not table["classes"]:
        refuse("no list 'classes'", "a label table is an object with 'name', 'classes' and optionally 'unlisted'")
    unknown_keys = sorted(set(table) - {"name", "classes", "unlisted"})
    if unknown_keys:
        refuse(f"unknown key '{unknown_keys[0]}'", "a label table has 'name', 'classes', 'unlisted'")
    if not isinstance(table.get("name"), str):
        refuse("no 'name'", "give the table a name")
    count = len(table["classes"])
    if count > 256:
        refuse(f"{count} classes", "labels are stored in 8 bits, so at most 256 are possible")

    classes = sorted((_checked_class(c, refuse) for c in table["classes"]), key=lambda c: c.train_id)
    train_ids = [c.train_id for c in classes]
    if train_ids != list(range(count)):
        refuse(f"train ids {train_ids}", f"{count} classes have the train ids 0 to {count - 1}, each once")
    for what, values in (("name", [c.name for c in classes]), ("raw id", [i for c in classes for i in c.raw_ids])):
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice is not None:
            refuse(f"{what} {twice!r} occurs twice", f"each {what} belongs to one class")
    unlisted = table.get("unlisted", "error")
    if unlisted != "error" and not (_is_int(unlisted) and 0 <= unlisted < count):
        refuse(f"'unlisted' is {unlisted!r}", f'it is "error" or a train id from 0 to {count - 1}')
    return LabelSpace(table["name"], tuple(classes), unlisted)


def _checked_class(entry: dict, refuse) -> LabelClass:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        refuse(f"class {entry!r} has no name", "each class is an object with 'train_id', 'name', 'colour', 'raw_ids'")
    name = entry["name"]
    unknown_keys = sorted(set(entry) - {"train_id", "name", "colour", "raw_ids"})
    if unknown_keys:
        refuse(f"class '{name}' has the unknown key '{unknown_keys[0]}'", "known: train_id, name, colour, raw_ids")
    if not _is_int(entry.get("train_id")):
        refuse(f"class '{name}' has train_id {entry.get('train_id')!r}", "give it a whole number from 0 on")
    colour = entry.get("colour", list(distinct_colours(entry["train_id"] + 1)[-1]))
    if not (isinstance(colour, list) and len(colour) == 3 and all(_is_byte(v) for v in colour)):
        refuse(f"class '{name}' has the colour {colour!r}", "a colour is [red, green, blue], each 0 to 255")
    raw_ids = entry.get("raw_ids", [])
    if not (isinstance(raw_ids, list) and all(_is_byte(v) for v in raw_ids)):
        refuse(f"class '{name}' has the raw ids {raw_ids!r}", "raw ids are a list of whole numbers from 0 to 255")
    return LabelClass(entry["train_id"], name, tuple(colour), tuple(raw_ids))


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_byte(value) -> bool:
    return _is_int(value) and 0 <= value <= 255
