"""Finding and reading image and label files, with one sentence for everything that can be wrong with them."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from datasets.errors import UserError
from datasets.labels import LabelSpace

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LABEL_SUFFIXES = (".png",)
SAVE_8_BIT = "save labels as 8-bit greyscale PNG of ids"

# What Pillow raises for files that are damaged one way or another.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def find_files(directory: str | Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """All files below `directory` whose names end so (upper or lower case), by relative path without the ending.

    Hidden files don't count: macOS leaves `._name.png` beside every name.png that it packs.
    """
    found, problems = scan_files(directory, endings)
    if problems:
        raise problems[0]
    if not found:
        raise UserError(f"{directory}: no *{', *'.join(endings)} files in it; give the directory that holds them")
    return found


def scan_files(directory: str | Path, endings: tuple[str, ...]) -> tuple[dict[str, Path], list[UserError]]:
    """As find_files, but goes on after what is wrong with single files."""
    directory = Path(directory)
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(_walk(directory, ancestors=())):
        ending = next((e for e in endings if path.name.lower().endswith(e.lower())), None)
        if ending is None:
            continue
        key = str(path.relative_to(directory))[: -len(ending)]
        if not _is_utf8(key):
            problems.append(UserError(f"{os.fsencode(path)!r}: the file name is not UTF-8; rename the file"))
        elif os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait for ever
            problems.append(UserError(f"{path}: a pipe or device, no file; remove it"))
        elif key in found:
            problems.append(UserError(f"{path}: {found[key].name} has the same stem; remove one of them"))
        else:
            found[key] = path
    return found, problems


def is_directory(path: Path) -> bool:
    """As Path.is_dir, but a place that may not be looked at is an error, not a missing directory."""
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


def _walk(directory: Path, ancestors: tuple[str, ...]):
    real = os.path.realpath(directory)
    if real in ancestors:
        raise UserError(f"{directory}: a symbolic link to a directory that it lies in; remove the link")
    try:
        entries = list(os.scandir(directory))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), (*ancestors, real))
            else:
                yield Path(entry.path)
    except FileNotFoundError:
        raise UserError(f"{directory}: no such directory; check the path") from None
    except NotADirectoryError:
        raise UserError(f"{directory}: a file, not a directory; give the directory that holds the files") from None
    except OSError as error:  # no permission, or a link that leads to itself
        where = error.filename or directory
        raise UserError(f"{where}: cannot be read ({error.strerror}); mend its permissions or remove it") from None


def pair_up(images: dict[str, Path], labels: dict[str, Path]) -> list[tuple[str, Path, Path]]:
    """(name, image, label) of each key in order; a key without partner is an error."""
    lonely = without_partner(images, labels)
    if lonely:
        more = f" (and {len(lonely) - 1} more files are without partner)" if len(lonely) > 1 else ""
        raise UserError(f"{lonely[0]}{more}")
    return [(key, images[key], labels[key]) for key in sorted(images)]


def without_partner(images: dict[str, Path], labels: dict[str, Path]) -> list[UserError]:
    return [
        UserError(f"{images[key]}: no label of the same name; add the label or remove this image")
        if key in images
        else UserError(f"{labels[key]}: no image of the same name; add the image or remove this label")
        for key in sorted(images.keys() ^ labels.keys())
    ]


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the header alone"""
    with _reporting(path), Image.open(path) as picture:
        return picture.height, picture.width


def read_image(path: Path) -> np.ndarray:
    """uint8 [H,W,3]"""
    with _reporting(path), Image.open(path) as picture:
        picture.load()
        orientation = _orientation(picture)
    claimed = Image.registered_extensions().get(path.suffix.lower())
    if picture.format != claimed and (picture.format, claimed) != ("MPO", "JPEG"):  # cameras' JPEG with a preview
        raise UserError(f"{path}: a {picture.format} file by its content; rename it or convert it to {claimed}")
    if picture.mode in ("RGBA", "LA", "PA") and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise UserError(f"{path}: a picture with transparent parts; save it without alpha channel")
    if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
        raise UserError(f"{path}: a picture of mode {picture.mode}; save it as 8-bit RGB")
    if orientation in range(2, 9):  # some programs obey it and some don't, so the label may fit either
        raise UserError(
            f"{path}: turned or mirrored by its EXIF tag (orientation {orientation}), which its label need "
            "not be; save it as it is shown (mogrify -auto-orient), or take the tag out if the label fits without it"
        )
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (*DAMAGED, TypeError):  # a tag that can't be read turns no picture
        return 1


def read_label(path: Path, space: LabelSpace, palette: str | None = None) -> np.ndarray:
    """train ids uint8 [H,W] of a label PNG: ids in grey values, colours of the table, or a palette (see there)"""
    pixels, colours = read_label_pixels(path)
    if colours is not None:
        return _palette_to_train_ids(path, pixels, colours, space, palette)
    if pixels.ndim == 3:
        return space.remap_colours(pixels, path)
    return space.remap(pixels, path)


def read_label_pixels(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """What a PNG holds: (ids [H,W], None), (colours [H,W,3], None) or (palette indices [H,W], palette [256,3])."""
    with _reporting(path), Image.open(path) as picture:
        if picture.format != "PNG":
            raise UserError(f"{path}: a {picture.format} file; {SAVE_8_BIT} (lossy formats change ids)")
        with open(path, "rb") as file:
            bit_depth = file.read(25)[24]
        picture.load()
    if bit_depth == 16:
        raise UserError(f"{path}: a 16-bit label; {SAVE_8_BIT}")
    pixels = np.asarray(picture)
    if picture.mode == "P":
        colours = np.zeros((256, 3), np.uint8)  # a file need not give all 256
        given = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        colours[: len(given)] = given
        return pixels, colours
    if picture.mode == "1":
        return pixels.astype(np.uint8), None
    if picture.mode == "L":
        # Pillow stretches 2 and 4 bits to 0..255; ids are what was in the file
        return pixels // (255 // (2**bit_depth - 1)), None
    if picture.mode == "RGB":
        return pixels, None
    raise UserError(f"{path}: a label of mode {picture.mode}; save it without alpha channel, or {SAVE_8_BIT}")


def read_raw_ids(path: Path) -> np.ndarray:
    """ids uint8 [H,W] as they are in the file, where there is no table"""
    pixels, colours = read_label_pixels(path)
    if pixels.ndim == 3:
        raise UserError(f"{path}: colour-coded; give a table with its colours, --labelspace FILE.json, or {SAVE_8_BIT}")
    if colours is not None and _is_shrunk_greyscale(pixels, colours):
        raise UserError(f"{path}: a palette of greys in an order of its own; {SAVE_8_BIT}")
    return pixels


def _is_shrunk_greyscale(indices: np.ndarray, colours: np.ndarray) -> bool:
    """Programs that shrink PNGs turn greyscale into a palette of the greys that occur: then the greys are the ids."""
    used = np.unique(indices)
    shown = colours[used]
    return bool((shown == shown[:, :1]).all() and (shown[:, 0] != used).any())


def _palette_to_train_ids(path, indices, colours, space, palette) -> np.ndarray:
    """A palette may be there for show, over ids, or may be what the table's colours speak of. Guessing wrong would
    train on the wrong classes, so where both readings are possible and differ, the user has to say which."""
    if palette == "ids":
        return space.remap(indices, path)
    if palette == "colours" or not space.has_raw_ids:
        return space.remap_palette(indices, colours, path)
    used = np.unique(indices).tolist()
    by_id = [space.classes_of_id(i) for i in used]
    by_colour = [space.classes_of_colour(tuple(colours[i].tolist())) for i in used]
    differ = any(c and i and not set(i) <= set(c) for i, c in zip(by_id, by_colour, strict=True))
    if differ or (not all(by_colour) and _is_shrunk_greyscale(indices, colours)):
        raise UserError(
            f"{path}: a palette whose colours say other classes than its indices; "
            "say --palette ids or --palette colours, or save it as 8-bit greyscale PNG of ids"
        )
    try:
        return space.remap(indices, path)
    except UserError as by_index:
        try:
            return space.remap_palette(indices, colours, path)
        except UserError:
            raise by_index from None


@contextlib.contextmanager
def _reporting(path: Path):
    """Turns what Pillow raises and warns of into a sentence about the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # corrupt tags of a sound picture, and the like
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels; scale the picture down") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; mend its permissions") from None
    except DAMAGED as error:
        raise UserError(
            f"{path}: unreadable, empty, truncated or not a picture ({error}); replace it or remove the pair"
        ) from None
