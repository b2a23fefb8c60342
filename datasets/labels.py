"""Label spaces: which classes a data set has, their names and colours, and which raw ids become which class."""

from __future__ import annotations

import colorsys
import functools
import hashlib
import json
import os
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.errors import UserError

if TYPE_CHECKING:  # preparing data needs no torch, and importing it takes seconds
    import torch

SPACES_DIR = Path(__file__).parent / "spaces"
# Names of classes that are none. Cityscapes': what was not labelled, or is no part of the scene.
UNKNOWN = {"unknown", "void", "unlabeled", "unlabelled", "ignored", "ego vehicle", "rectification border", "out of roi"}


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
    unlisted: str | int = "error"  # ids and colours outside the table: "error", "ignored", or the train id they become
    ignored: tuple = ()  # ids and colours that are no class: such a pixel takes the class of the nearest that has one

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
    def unknown(self) -> tuple[int, ...]:
        """Train ids of classes that are none, which scores of classes leave out: what unlisted ids become, and those
        that are named so. A rule, since a key of its own would make another table of each that there is."""
        named = (c.train_id for c in self.classes if c.name.strip().lower() in UNKNOWN)
        return tuple(sorted({*named, *([self.unlisted] if isinstance(self.unlisted, int) else [])}))

    @property
    def is_as_found(self) -> bool:
        """Were the classes made of the ids that occur, by space_of_ids?"""
        return all(c.name == f"id_{c.raw_ids[0]}" for c in self.classes if c.raw_ids) and self.has_raw_ids

    @property
    def hash(self) -> str:
        """Digest of the whole table: two networks fit together only if theirs are equal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict:
        """Plain types only, for JSON and for torch.load(weights_only=True)."""
        classes = [
            {"train_id": c.train_id, "name": c.name, "colour": list(c.colour), "raw_ids": list(c.raw_ids)}
            for c in self.classes
        ]
        table = {"name": self.name, "unlisted": self.unlisted, "classes": classes}
        return table | ({"ignored": [_plain(value) for value in self.ignored]} if self.ignored else {})

    @classmethod
    def from_dict(cls, table: dict, where: str = "label space") -> LabelSpace:
        """Checks the table; `where` is the file to name when it is wrong."""
        return _checked_space(table, where)

    @property
    def ignores(self) -> bool:
        return bool(self.ignored) or self.unlisted == "ignored"

    @property
    def of_classes(self) -> LabelSpace:
        """The table once labels are read: nothing is left to be ignored, and networks need not know that it was."""
        return replace(self, ignored=(), unlisted="error" if self.unlisted == "ignored" else self.unlisted)

    def ignoring(self, raw_ids: tuple[int, ...], flag: str) -> LabelSpace:
        """The table with these raw ids ignored, too; `flag` is what to name if one belongs to a class."""
        for c in self.classes:
            if set(raw_ids) & set(c.raw_ids):
                raise UserError(
                    f"--{flag} {min(set(raw_ids) & set(c.raw_ids))}: the label table '{self.name}' has it as "
                    f"'{c.name}'; take it out of the table, or leave --{flag} out"
                )
        return replace(self, ignored=tuple(dict.fromkeys((*self.ignored, *raw_ids))))

    def remap(self, raw: np.ndarray, path) -> np.ndarray:
        """raw ids uint8 [H,W] -> train ids uint8 [H,W]; `path` is the file to name when an id isn't in the table."""
        return fill_ignored(*self.classify(raw, path), path)

    def remap_colours(self, rgb: np.ndarray, path) -> np.ndarray:
        """Colour-coded labels uint8 [H,W,3] -> train ids uint8 [H,W]."""
        return fill_ignored(*self.classify_colours(rgb, path), path)

    def classify(self, raw: np.ndarray, path) -> tuple[np.ndarray, np.ndarray]:
        """raw ids uint8 [H,W] -> (train ids uint8 [H,W], which pixels are ignored and have none bool [H,W])"""
        lookup, listed, ignored = self._by_raw_id
        if self.unlisted == "error":
            counts = np.bincount(raw.reshape(-1), minlength=256)
            unknown = np.flatnonzero((counts > 0) & ~listed & ~ignored).tolist()
            self._refuse_unlisted("id", {i: int(counts[i]) for i in unknown}, path)
        return lookup[raw], ignored[raw]

    def classify_colours(self, rgb: np.ndarray, path) -> tuple[np.ndarray, np.ndarray]:
        """Colours uint8 [H,W,3] -> as classify."""
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
        ignored = np.array([colour in self.ignored or (self.unlisted == "ignored" and not classes)
                            for colour, classes in zip(colours, owners, strict=True)])  # fmt: skip
        if self.unlisted == "error":
            unknown = {colours[k]: int(counts[k]) for k in range(len(colours)) if not owners[k] and not ignored[k]}
            self._refuse_unlisted("colour", unknown, path)
        other = self.unlisted if isinstance(self.unlisted, int) else 0
        train_ids = np.array([classes[0] if classes else other for classes in owners], dtype=np.uint8)
        where = where.reshape(packed.shape)
        return train_ids[where], ignored[where]

    def classify_palette(self, indices: np.ndarray, palette: np.ndarray, path) -> tuple[np.ndarray, np.ndarray]:
        """Palette indices uint8 [H,W], colours uint8 [256,3] -> as classify, by the colours shown."""
        if self.is_own_palette(indices, palette):  # then shared colours are no riddle
            return indices, np.zeros(indices.shape, bool)
        return self.classify_colours(palette[indices], path)

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
            f"mend the file, add the {kind} to the table, or set the table's 'unlisted' to a train id or \"ignored\"",
            sum(pixels.values()),
        )

    def classes_of_colour(self, colour: tuple[int, int, int]) -> list[int]:
        """The train ids shown in this colour: none, one, or (then labels can't be read by it) several."""
        return [c.train_id for c in self.classes if c.colour == colour]

    def classes_of_id(self, raw_id: int) -> list[int]:
        """The train id that lists this raw id, if one does."""
        return [c.train_id for c in self.classes if raw_id in c.raw_ids]

    @property
    def ignored_ids(self) -> list[int]:
        return [value for value in self.ignored if isinstance(value, int)]

    @functools.cached_property
    def _by_raw_id(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(train id of each raw id uint8 [256], whether it is listed bool [256], whether it is ignored bool [256])"""
        lookup = np.full(256, self.unlisted if isinstance(self.unlisted, int) else 0, dtype=np.uint8)
        listed = np.zeros(256, dtype=bool)
        for c in self.classes:
            for raw_id in c.raw_ids:
                lookup[raw_id] = c.train_id
                listed[raw_id] = True
        ignored = ~listed if self.unlisted == "ignored" else np.isin(np.arange(256), self.ignored_ids)
        return lookup, listed, ignored


def space_of_ids(name: str, raw_ids: list[int], ignored: tuple[int, ...] = ()) -> LabelSpace:
    """A table for labels that came without one: each id is a class."""
    colours = distinct_colours(len(raw_ids))
    return LabelSpace(
        name, tuple(LabelClass(i, f"id_{k}", colours[i], (k,)) for i, k in enumerate(raw_ids)), ignored=ignored
    )


def load_space(name_or_file: str | Path) -> LabelSpace:
    """A table that comes with the code, by name, or one's own, by JSON file."""
    path = SPACES_DIR / f"{name_or_file}.json"
    if not os.path.isfile(path):
        path = Path(name_or_file)
    try:
        table = json.loads(path.read_bytes())  # UTF-8, -16 or -32, with a byte-order mark or without
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in SPACES_DIR.glob("*.json")))
        raise UserError(f"{path}: no such label table; give a JSON file or one of {known}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the label table ({error.strerror}); give a readable JSON file") from None
    except (ValueError, RecursionError) as error:  # not JSON, or no text
        raise UserError(f"{path}: not a JSON file ({error}); see datasets/spaces/ for the form of a table") from None
    return LabelSpace.from_dict(table, where=str(path))


def fill_ignored(train_ids: np.ndarray, ignored: np.ndarray, path) -> np.ndarray:
    """Each ignored pixel of the train ids [H,W] gets the class of the nearest pixel that has one."""
    if not ignored.any():
        return train_ids
    if ignored.all():
        raise UserError(f"{path}: every pixel is ignored; remove the pair, or label it")
    from scipy.ndimage import distance_transform_edt  # here, because few labels need it

    rows, columns = distance_transform_edt(ignored, return_distances=False, return_indices=True)
    return train_ids[rows, columns]


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
    unknown_keys = sorted(set(table) - {"name", "classes", "unlisted", "ignored"})
    if unknown_keys:
        refuse(f"unknown key '{unknown_keys[0]}'", "a label table has 'name', 'classes', 'unlisted', 'ignored'")
    if not _is_name(table.get("name")):
        refuse("no 'name'", "give the table a name, of one line")
    count = len(table["classes"])
    if count > 256:
        refuse(f"{count} classes", "labels are stored in 8 bits, so at most 256 are possible")

    classes = sorted((_checked_class(c, count, refuse) for c in table["classes"]), key=lambda c: c.train_id)
    train_ids = [c.train_id for c in classes]
    if train_ids != list(range(count)):
        refuse(f"train ids {train_ids}", f"{count} classes have the train ids 0 to {count - 1}, each once")
    names = [unicodedata.normalize("NFC", c.name).strip() for c in classes]  # what people take for the same
    raw_ids = [i for c in classes for i in c.raw_ids]
    for what, values in (("name", names), ("raw id", raw_ids)):
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice is not None:
            refuse(f"{what} {twice!r} occurs twice", f"each {what} belongs to one class")
    unlisted = table.get("unlisted", "error")
    if unlisted not in ("error", "ignored") and not (_is_int(unlisted) and 0 <= unlisted < count):
        refuse(f"'unlisted' is {unlisted!r}", f'it is "error", "ignored" or a train id from 0 to {count - 1}')
    return LabelSpace(table["name"], tuple(classes), unlisted, _checked_ignored(table, classes, refuse))


def _checked_ignored(table: dict, classes: list[LabelClass], refuse) -> tuple:
    ignored = table.get("ignored", [])
    if not (isinstance(ignored, list) and all(_is_byte(v) or _is_colour(v) for v in ignored)):
        refuse(f"'ignored' is {ignored!r}", "it is a list of raw ids from 0 to 255, or of colours [red, green, blue]")
    ignored = [tuple(v) if isinstance(v, list) else v for v in ignored]
    for c in classes:
        both = [v for v in ignored if v in c.raw_ids or v == c.colour]
        if both:
            refuse(f"{both[0]} is class '{c.name}' and 'ignored'", "an id or a colour is one or the other")
    return tuple(ignored)


def _checked_class(entry: dict, count: int, refuse) -> LabelClass:
    if not isinstance(entry, dict) or not _is_name(entry.get("name")):
        refuse(f"class {str(entry)[:100]} has no name of one line",
               "each class is an object with 'train_id', 'name', 'colour', 'raw_ids'")  # fmt: skip
    name = entry["name"]
    unknown_keys = sorted(set(entry) - {"train_id", "name", "colour", "raw_ids"})
    if unknown_keys:
        refuse(f"class '{name}' has the unknown key '{unknown_keys[0]}'", "known: train_id, name, colour, raw_ids")
    train_id = entry.get("train_id")
    if not _is_int(train_id) or not 0 <= train_id < 256:
        refuse(f"class '{name}' has train_id {repr(train_id)[:20]}", f"give it a whole number from 0 to {count - 1}")
    colour = entry.get("colour", list(distinct_colours(train_id + 1)[-1]))
    if not _is_colour(colour):
        refuse(f"class '{name}' has the colour {colour!r}", "a colour is [red, green, blue], each 0 to 255")
    raw_ids = entry.get("raw_ids", [])
    if not (isinstance(raw_ids, list) and all(_is_byte(v) for v in raw_ids)):
        refuse(f"class '{name}' has the raw ids {raw_ids!r}", "raw ids are a list of whole numbers from 0 to 255")
    return LabelClass(train_id, name, tuple(colour), tuple(raw_ids))


def _is_name(value) -> bool:
    """Something to print: no control characters, and nothing that cannot be encoded."""
    return (
        isinstance(value, str) and bool(value.strip()) and not {unicodedata.category(c) for c in value} & {"Cc", "Cs"}
    )


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_byte(value) -> bool:
    return _is_int(value) and 0 <= value <= 255


def _is_colour(value) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_byte(v) for v in value)


def _plain(value):
    return list(value) if isinstance(value, tuple) else value
