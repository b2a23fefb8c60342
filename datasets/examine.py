"""Everything that can be known of a store or of folders of pairs, without stopping at the first thing that is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from datasets.errors import UserError
from datasets.files import read_classes, read_image, read_label, read_label_pixels, read_raw_ids
from datasets.labels import LabelSpace, OutsideTable, colourise, space_of_ids
from datasets.packed import PREPARE_AGAIN, Split, open_store
from datasets.packing import in_parallel
from datasets.pairs import check_equal_sizes, nothing_found, scan_pairs, without_partner
from datasets.sources.folder import count_ids, describe_scattered, split_of_folder

UNUSABLE, OUTSIDE, SCATTERED, SIZES, LONELY, NAMES, DUPLICATE, DAMAGED, EMPTY = (
    "files that cannot be used",
    "labels outside the table",
    "ids that are no classes",
    "images and labels of different size",
    "files without partner",
    "file names",
    "identical images",
    "damaged pairs of the store",
    "nothing there",
)
SHEET_PAIRS, SHEET_HEIGHT, OFFENDERS = 12, 128, 6


@dataclass(frozen=True)
class Problem:
    kind: str
    message: str  # names the file and says what to do
    pixels: int = 0
    label: Path | None = None


@dataclass
class Examination:
    title: str
    class_names: tuple[str, ...] = ()
    colours: np.ndarray | None = None  # uint8 [C,3]
    pairs: Counter = field(default_factory=Counter)  # split -> how many
    pixels: dict[str, np.ndarray] = field(default_factory=dict)  # split -> int64 [C]
    images_with: dict[str, np.ndarray] = field(default_factory=dict)  # split -> int64 [C], pairs that have the class
    sizes: Counter = field(default_factory=Counter)  # (height, width) -> pairs
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sheet: list[tuple[str, np.ndarray, np.ndarray]] = field(default_factory=list)  # name, image, colours: [h,w,3] each
    offenders: list[tuple[str, np.ndarray]] = field(default_factory=list)  # name, label with magenta where it is wrong

    def count(self, split: str, class_pixels: np.ndarray) -> None:
        """Adds one pair's pixels of each class [C]."""
        none = np.zeros(len(class_pixels), np.int64)
        self.pixels[split] = self.pixels.get(split, none) + class_pixels
        self.images_with[split] = self.images_with.get(split, none) + (class_pixels > 0)

    def note_absent_classes(self) -> None:
        for split, pixels in self.pixels.items():
            absent = [name for name, count in zip(self.class_names, pixels, strict=True) if count == 0]
            if absent:
                self.notes.append(f"{split}: {len(absent)} classes never appear: {', '.join(absent)}")

    def note_scattered(self, counts: np.ndarray) -> None:
        """counts: the sum of count_ids over labels that came without a table"""
        doubt = describe_scattered(counts)
        if doubt:
            self.problems.append(Problem(SCATTERED, doubt))

    def note_ignored(self, shares: list[float], too_much: list[str]) -> None:
        if any(shares):
            self.notes.append(
                f"{100 * np.mean(shares):.2g} % of pixels are ignored and take the class of the nearest that has one"
            )
        if too_much:
            more = f" and {len(too_much) - 5} more" if len(too_much) > 5 else ""
            self.notes.append(f"{len(too_much)} pairs are left out, ignored too much: {', '.join(too_much[:5])}{more}")

    def note_duplicates(self, names_by_digest: dict[bytes, list[str]]) -> None:
        for first, *copies in names_by_digest.values():
            if copies:
                more = f" and {len(copies) - 1} more" if len(copies) > 1 else ""
                message = f"{copies[0]}: the same picture as {first}{more}; keep one of them"
                self.problems.append(Problem(DUPLICATE, message))


# --- a packed store


def examine_store(path: Path) -> Examination:
    store = open_store(path)
    space = store.label_space
    title = f"{path}: {store.name}, {store.height}x{store.width}, {space.num_classes} classes"
    found = Examination(title, space.names, space.colours)
    digests: dict[bytes, list[str]] = {}
    counts = np.zeros((2, 256), np.int64)
    for split in store.splits.values():
        tasks = [(split, i, space.num_classes) for i in range(len(split))]
        for (_, i, _), (of_pair, digest, damage) in zip(
            tasks, in_parallel(_examine_packed_pair, tasks, 1, f"reading {split.name}"), strict=True
        ):
            found.pairs[split.name] += 1
            found.sizes[split.size(i)] += 1
            found.count(split.name, of_pair[0, : space.num_classes])
            counts += of_pair
            digests.setdefault(digest, []).append(f"{split.name}/{split.names[i]}")
            if damage:
                message = f"{path}: pair {split.names[i]} of split {split.name} {damage}; {PREPARE_AGAIN}"
                found.problems.append(Problem(DAMAGED, message))
        if len(found.sheet) < SHEET_PAIRS and not found.problems:
            for i in _spread(len(split), SHEET_PAIRS // len(store.splits)):
                image, labels = split.image(i).transpose(1, 2, 0), split.layout(i)
                found.sheet.append(_thumbnails(f"{split.name}/{split.names[i]}", image, labels, space.colours))
    if space.is_as_found:
        found.note_scattered(counts)
    found.note_duplicates(digests)
    found.note_absent_classes()
    found.notes.append(f"scores are measured against split '{store.reference}'")
    return found


def _examine_packed_pair(task: tuple[Split, int, int]) -> tuple[np.ndarray, bytes, str | None]:
    """(counts of the train ids [2,256], digest of the image, what is wrong with it)"""
    split, i, num_classes = task
    image, labels = split.image(i), split.layout(i)
    counts = count_ids(labels)
    damage = None
    if zlib.crc32(labels, zlib.crc32(image)) != split.crc32[i]:
        damage = "is not what was written (its checksum differs)"
    elif counts[0, num_classes:].any():
        damage = f"has the train id {labels.max()}, and there are {num_classes} classes"
    return counts, hashlib.blake2b(image).digest(), damage


# --- folders of images and labels


@dataclass(frozen=True)
class Pair:
    name: str
    image: Path
    label: Path


def examine_folders(
    images: Path,
    labels: Path,
    endings: tuple[tuple[str, ...], tuple[str, ...]],
    space: LabelSpace | None,
    palette: str | None,
    workers: int,
    ignored: tuple[int, ...] = (),
    most_ignored: float = 1.0,
) -> Examination:
    """`space` None: ids as they are found, but those that are ignored."""
    found = Examination(f"{images} with {labels}")
    image_files, label_files, problems = scan_pairs(images, labels, endings)
    found.problems += [Problem(NAMES, str(e)) for e in problems]
    for directory, files, wanted in ((images, image_files, endings[0]), (labels, label_files, endings[1])):
        if not files and not problems:
            found.problems.append(Problem(EMPTY, str(nothing_found(directory, wanted))))
    found.problems += [Problem(LONELY, str(e)) for e in without_partner(image_files, label_files)]
    pairs = [Pair(key, image_files[key], label_files[key]) for key in sorted(image_files.keys() & label_files.keys())]

    tasks = [(pair, space, palette, ignored) for pair in pairs]
    results = list(in_parallel(_examine_pair, tasks, workers, "examining pairs"))
    if space is None:
        counts = sum((r.counts for r in results if r.counts is not None), np.zeros((2, 256), np.int64))
        ids = np.flatnonzero(counts[0])
        space, palette = space_of_ids("as found", ids.tolist(), ignored), "ids"
        found.note_scattered(counts)
    else:
        ids = np.arange(space.num_classes)
    found.class_names, found.colours = space.names, space.colours
    good = _tally(found, pairs, results, ids, most_ignored)
    palettes = [pair.label for pair, result in zip(pairs, results, strict=True) if result.has_palette]
    if palettes:
        found.notes.append(
            f"{len(palettes)} labels have a palette, as {palettes[0]}: see --palette for how they are read"
        )
    if len(found.sizes) > 1:
        found.notes.append("pictures of several sizes: each is cropped to the store's proportions and resized")
    for pair in (good[i] for i in _spread(len(good), SHEET_PAIRS)):
        image, train_ids = read_image(pair.image), read_label(pair.label, space, palette)
        found.sheet.append(_thumbnails(pair.name, image, train_ids, found.colours))
    outside = sorted((p for p in found.problems if p.kind == OUTSIDE), key=lambda p: -p.pixels)
    found.problems = [p for p in found.problems if p.kind != OUTSIDE] + outside  # worst first
    found.offenders = [_mark_outside(p, space, palette) for p in outside[:OFFENDERS]]
    return found


def _tally(
    found: Examination, pairs: list[Pair], results: list[PairResult], ids: np.ndarray, most_ignored: float
) -> list[Pair]:
    """Adds up what was found of each pair; returns those without a problem that will be packed."""
    digests: dict[bytes, list[str]] = {}
    for pair, result in zip(pairs, results, strict=True):
        split = _split_of(pair.name)
        found.pairs[split] += 1
        found.problems += result.problems
        if result.digest:
            digests.setdefault(result.digest, []).append(str(pair.image))
        if result.counts is not None:
            found.count(split, result.counts[0, ids])
        if result.size:
            found.sizes[result.size] += 1
    found.note_duplicates(digests)
    found.note_absent_classes()
    too_much = [pair.name for pair, r in zip(pairs, results, strict=True) if r.ignored > most_ignored or r.ignored == 1]
    found.note_ignored([result.ignored for result in results], too_much)
    return [pair for pair, r in zip(pairs, results, strict=True) if not r.problems and pair.name not in too_much]


@dataclass(frozen=True)
class PairResult:
    size: tuple[int, int] | None
    counts: np.ndarray | None  # [2,256] of count_ids, by train id, or by raw id where there is no table
    ignored: float  # share of pixels, which are not counted
    digest: bytes | None  # of the image's pixels
    has_palette: bool
    problems: list[Problem]


def _examine_pair(task: tuple[Pair, LabelSpace | None, str | None, tuple[int, ...]]) -> PairResult:
    pair, space, palette, no_class = task
    problems, image, labels, ignored = [], None, None, np.zeros((1, 1), bool)
    try:
        image = read_image(pair.image)
    except UserError as error:
        problems.append(Problem(UNUSABLE, str(error)))
    try:
        if space:
            labels, ignored = read_classes(pair.label, space, palette)
        else:
            labels = read_raw_ids(pair.label)
            ignored = np.isin(labels, no_class)
    except OutsideTable as error:
        problems.append(Problem(OUTSIDE, str(error), error.pixels, pair.label))
    except UserError as error:
        problems.append(Problem(UNUSABLE, str(error)))
    if image is not None and labels is not None:
        try:
            check_equal_sizes(image, labels, pair.image, pair.label)
        except UserError as error:
            problems.append(Problem(SIZES, str(error)))
    return PairResult(
        size=None if image is None else image.shape[:2],
        counts=None if labels is None else count_ids(labels, but=ignored),
        ignored=float(ignored.mean()),
        digest=None if image is None else hashlib.blake2b(image.tobytes() + str(image.shape).encode()).digest(),
        has_palette=labels is not None and read_label_pixels(pair.label)[1] is not None,
        problems=problems,
    )


def _split_of(name: str) -> str:
    top, *below = name.split("/")
    return (below and split_of_folder(top)) or "all"


def _mark_outside(problem: Problem, space: LabelSpace, palette: str | None) -> tuple[str, np.ndarray]:
    """The label in dim colours, magenta where its ids or colours aren't in the table, single pixels enlarged."""
    pixels, colours = read_label_pixels(problem.label)
    if colours is not None and (palette == "colours" or not space.has_raw_ids):
        pixels = colours[pixels]
    if pixels.ndim == 3:
        as_number = np.array([1 << 16, 1 << 8, 1])
        listed = [*space.colours.tolist(), *(v for v in space.ignored if isinstance(v, tuple))]
        known, shown = np.isin(pixels @ as_number, np.array(listed) @ as_number), pixels
    else:
        known = np.isin(pixels, [i for c in space.classes for i in c.raw_ids] + [*space.ignored_ids])
        shown = colourise(dataclasses.replace(space, unlisted=0).classify(pixels, problem.label)[0], space.colours)
    outside = _shrink(np.where(known, 0, 255).astype(np.uint8), Image.Resampling.BOX)
    outside = np.asarray(Image.fromarray(outside).filter(ImageFilter.MaxFilter(3))) > 0
    dim = _shrink(shown, Image.Resampling.NEAREST) // 2
    return problem.label.name, np.where(outside[..., None], np.uint8([255, 0, 255]), dim)


# --- pictures for the report


def _spread(count: int, wanted: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).astype(int).tolist())) if count else []


def _thumbnails(name: str, image: np.ndarray, labels: np.ndarray, colours: np.ndarray):
    shown = colourise(labels, colours)
    return name, _shrink(image, Image.Resampling.BICUBIC), _shrink(shown, Image.Resampling.NEAREST)


def _shrink(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
    height, width = picture.shape[:2]
    size = (max(1, round(width * SHEET_HEIGHT / height)), SHEET_HEIGHT)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, how))
