"""Pairs of an image and a label file: found in folders, loaded, cropped and resized."""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.errors import UserError
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, SAVE_8_BIT, read_image, read_label
from datasets.labels import LabelSpace
from datasets.packing import Entry, Item

Files = dict[str, Path]  # relative path without the ending, in one Unicode form -> file


def find_files(directory: str | Path, endings: tuple[str, ...]) -> Files:
    """All files below `directory` whose names end so (upper or lower case).

    Hidden files don't count: macOS leaves `._name.png` beside every name.png that it packs.
    """
    return _whole(directory, endings, *scan_files(directory, endings))


def find_pairs(images: Path, labels: Path, endings: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[Files, Files]:
    """The images and the labels of two folders, of which one may lie in the other, or of one folder."""
    image_files, label_files, problems = scan_pairs(images, labels, endings)
    return _whole(images, endings[0], image_files, problems), _whole(labels, endings[1], label_files, [])


def scan_pairs(images: Path, labels: Path, endings: tuple[tuple[str, ...], tuple[str, ...]]):
    """Finds pairs and goes on after what is wrong with single files: (images, labels, list of UserError)"""
    if os.path.realpath(images) == os.path.realpath(labels):
        return _scan_one_folder(images, *endings)
    image_files, image_problems = scan_files(images, endings[0], but=labels)
    label_files, label_problems = scan_files(labels, endings[1], but=images)
    if endings[1] == LABEL_SUFFIXES and image_files.keys() - label_files.keys():
        lossy = scan_files(labels, tuple(set(IMAGE_SUFFIXES) - set(LABEL_SUFFIXES)), but=images)[0]
        for key in sorted(lossy.keys() & image_files.keys() - label_files.keys()):
            del image_files[key]
            label_problems.append(UserError(f"{lossy[key]}: a label in a format that changes ids; {SAVE_8_BIT}"))
    return image_files, label_files, image_problems + label_problems


def _scan_one_folder(folder: Path, image_endings: tuple[str, ...], label_endings: tuple[str, ...]):
    """A name that both endings fit is what the longer one says, and one that was given goes before the usual ones."""
    ranks = [0 if e in (IMAGE_SUFFIXES, LABEL_SUFFIXES) else max(map(len, e)) for e in (image_endings, label_endings)]
    if ranks[0] == ranks[1]:
        for path in sorted(_walk(folder, None, ancestors=())):
            if _ending(path.name, image_endings) and _ending(path.name, label_endings):
                raise UserError(
                    f"{folder}: is --images and --labels, and {path.name} may be either; say which are which, as "
                    "--image_ending .jpg --label_ending .png"
                )
    images, image_problems = scan_files(folder, image_endings, but_endings=label_endings if ranks[0] < ranks[1] else ())
    labels, label_problems = scan_files(folder, label_endings, but_endings=image_endings if ranks[1] < ranks[0] else ())
    return images, labels, image_problems + label_problems


def _ending(name: str, endings: tuple[str, ...]) -> str | None:
    return next((e for e in endings if one_form(name).lower().endswith(one_form(e).lower())), None)


def one_form(name: str) -> str:
    """The shorter of the ways to write an accent in Unicode: macOS writes the other one, and both look the same."""
    return unicodedata.normalize("NFC", name)


def scan_files(directory: str | Path, endings: tuple[str, ...], but: Path | None = None, but_endings=()):
    """Finds files and goes on after what is wrong with single files: (files, list of UserError).

    but: a folder that is left out if it lies in this one; but_endings: files that are left out
    """
    directory = Path(directory)
    found: Files = {}
    problems = []
    left_out = os.path.realpath(but) if but and os.path.realpath(but) != os.path.realpath(directory) else None
    for path in sorted(_walk(directory, left_out, ancestors=())):
        ending = _ending(path.name, endings)
        if ending is None or _ending(path.name, but_endings):
            continue
        key = one_form(str(path.relative_to(directory)))[: -len(one_form(ending))]
        if not _is_utf8(key):
            problems.append(UserError(f"{os.fsencode(path)!r}: the file name is not UTF-8; rename the file"))
        elif os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait for ever
            problems.append(UserError(f"{path}: a pipe or device, no file; remove it"))
        elif key in found and one_form(path.name) == one_form(found[key].name):
            problems.append(UserError(f"{path}: twice there, in two of Unicode's ways to write its name; remove one"))
        elif key in found:
            problems.append(UserError(f"{path}: {found[key].name} has the same stem; remove one of them"))
        else:
            found[key] = path
    return found, problems


def _whole(directory: str | Path, endings: tuple[str, ...], found: Files, problems: list[UserError]) -> Files:
    if problems:
        raise problems[0]
    if not found:
        raise nothing_found(directory, endings)
    return found


def nothing_found(directory: str | Path, endings: tuple[str, ...]) -> UserError:
    """The complaint about a folder without files that end so: what is there instead."""
    wanted, others = f"{directory}: no *{', *'.join(endings)} files in it", _other_suffixes(Path(directory))
    there = f", but *{', *'.join(others)}" if others else ""
    return UserError(f"{wanted}{there}; give the directory that holds them")


def _other_suffixes(directory: Path) -> list[str]:
    return sorted({path.suffix.lower() for path in _walk(directory, None, ancestors=()) if path.suffix})[:5]


def is_directory(path: Path) -> bool:
    """Path.is_dir, but a place that may not be looked at is an error, not a missing directory."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend its permissions or the path") from None


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # bytes that the file system's encoding could not make sense of
        return False
    return True


def _walk(directory: Path, left_out: str | None, ancestors: tuple[str, ...]):
    real = os.path.realpath(directory)
    if real == left_out:
        return
    if real in ancestors:
        raise UserError(f"{directory}: a symbolic link to a directory that it lies in; remove the link")
    try:
        entries = list(os.scandir(directory))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), left_out, (*ancestors, real))
            else:
                yield Path(entry.path)
    except FileNotFoundError:
        raise UserError(f"{directory}: no such directory; check the path") from None
    except NotADirectoryError:
        raise UserError(f"{directory}: a file, not a directory; give the directory that holds the files") from None
    except OSError as error:  # no permission, or a link that leads to itself
        where = error.filename or directory
        raise UserError(f"{where}: cannot be read ({error.strerror}); mend its permissions or remove it") from None


def pair_up(images: Files, labels: Files) -> list[tuple[str, Path, Path]]:
    """(name, image, label) of each key in order; a key without partner is an error."""
    lonely = without_partner(images, labels)
    if lonely:
        more = f" (and {len(lonely) - 1} more files are without partner)" if len(lonely) > 1 else ""
        raise UserError(f"{lonely[0]}{more}")
    return [(key, images[key], labels[key]) for key in sorted(images)]


def without_partner(images: Files, labels: Files) -> list[UserError]:
    return [
        UserError(f"{images[key]}: no label of the same name; add the label or remove this image")
        if key in images
        else UserError(f"{labels[key]}: no image of the same name; add the image or remove this label")
        for key in sorted(images.keys() ^ labels.keys())
    ]


def find_directory(source: str | Path, inside: str) -> Path | None:
    """source/inside, or one or two folders deeper, as when the zip's own top folder is in between; None if nowhere."""
    source = Path(source)
    if not is_directory(source):
        raise UserError(f"--source {source}: no such directory; give the folder that holds the data set")
    if is_directory(source / inside):
        return source / inside
    for between in ("*/", "*/*/"):
        found = sorted(path for path in source.glob(between + inside) if path.is_dir())
        if len(found) > 1:
            raise UserError(f"{found[1]}: there is {found[0]} too; remove one, or point --source at one of them")
        if found:
            return found[0]
    return None


def need_directory(source: str | Path, inside: str) -> Path:
    found = find_directory(source, inside)
    if found is None:
        raise UserError(f"--source {source}: no {inside} in it; give the folder that holds it, unzipped")
    return found


# --- Items of a plan, and how one is loaded ---


def pair_items(
    images: Path,
    labels: Path,
    height: int,
    width: int,
    image_endings: tuple[str, ...] = IMAGE_SUFFIXES,
    label_endings: tuple[str, ...] = LABEL_SUFFIXES,
    weight: int = 1,
) -> list[Item]:
    """The pairs of two folders with the same file names but for the endings; source of an item: (image, label)"""
    pairs = pair_up(*find_pairs(images, labels, (image_endings, label_endings)))
    return [Item(Entry(name, height, width, weight), (image, label)) for name, image, label in pairs]


def note_counts(splits: dict[str, list[Item]], published: dict[str, int]) -> None:
    """A city that was not unzipped leaves no trace but a smaller number."""
    for split, expected in published.items():
        if len(splits[split]) != expected:
            print(f"note: {len(splits[split])} {split} images; the published split has {expected}", file=sys.stderr)


def load_pair(item: Item, space: LabelSpace, palette: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Checked, remapped, cropped to the centre and resized: image uint8 [h,w,3], train ids uint8 [h,w]"""
    image_path, label_path = item.source
    image, labels = read_image(image_path), read_label(label_path, space, palette)
    check_equal_sizes(image, labels, image_path, label_path)
    height, width = item.entry.height, item.entry.width
    box = central_crop(*labels.shape, width // height)
    return resize_image(image, box, height, width), resize_labels(labels, box, height, width)


def check_equal_sizes(image: np.ndarray, labels: np.ndarray, image_path: Path, label_path: Path) -> None:
    if image.shape[:2] != labels.shape:
        raise UserError(
            f"{label_path}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image {image_path} has "
            f"{image.shape[1]}x{image.shape[0]}; make them the same size or remove the pair"
        )


def central_crop(height: int, width: int, aspect: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest central window that is `aspect` times as wide as high"""
    high = max(1, min(height, width // aspect))
    wide = min(width, aspect * high)
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def resize_image(image: np.ndarray, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """uint8 [H,W,3], box (left, top, right, bottom) -> uint8 [height,width,3]: bicubic, antialiased"""
    return np.asarray(Image.fromarray(image).crop(box).resize((width, height), Image.Resampling.BICUBIC))


def resize_labels(labels: np.ndarray, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """uint8 [H,W] -> uint8 [height,width]: the pixel under the centre of each new one, floor((i + 1/2) H / height)"""
    left, top, right, bottom = box
    rows = top + (2 * np.arange(height) + 1) * (bottom - top) // (2 * height)
    columns = left + (2 * np.arange(width) + 1) * (right - left) // (2 * width)
    return labels[np.ix_(rows, columns)]
