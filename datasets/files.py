"""Files: pictures and labels are read, with one sentence for everything that can be wrong; others are written whole.

Both sides of a pair are held to one rule: a picture is upright and opaque as it is stored. Programs differ in what they
make of orientation tags and of transparency, and a pair whose halves are read in two ways does not fit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from datasets.errors import UserError
from datasets.labels import LabelSpace, OutsideTable, fill_ignored

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
LABEL_FORMATS = ("PNG", "BMP", "TIFF")
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
SAVE_8_BIT = "save labels as 8-bit greyscale PNG of ids"
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0

# What Pillow raises for files that are damaged one way or another.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the header alone"""
    with _reporting(path), Image.open(path) as picture:
        return picture.height, picture.width


def read_image(path: Path) -> np.ndarray:
    """uint8 [H,W,3]"""
    picture = _read_picture(path)
    claimed = Image.registered_extensions().get(path.suffix.lower())
    if picture.format != claimed and (picture.format, claimed) != ("MPO", "JPEG"):  # cameras' JPEG with a preview
        raise UserError(f"{path}: a {picture.format} file by its content; rename it or convert it to {claimed}")
    if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
        raise UserError(f"{path}: a picture of mode {picture.mode}; save it as 8-bit RGB")
    return np.asarray(picture.convert("RGB"))


def read_label(path: Path, space: LabelSpace, palette: str | None = None) -> np.ndarray:
    """train ids uint8 [H,W] of a label file: ids in grey values, colours of the table, or a palette (see there)"""
    return fill_ignored(*read_classes(path, space, palette), path)


def read_classes(path: Path, space: LabelSpace, palette: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(train ids uint8 [H,W], which pixels are ignored and have none bool [H,W])"""
    pixels, colours = read_label_pixels(path)
    if colours is not None:
        return _classify_palette(path, pixels, colours, space, palette)
    if pixels.ndim == 3:
        if space.has_raw_ids and _are_ids_as_colours(pixels, space):
            with Image.open(path) as picture:
                mode = picture.mode
            raise UserError(
                f"{path}: a label of mode {mode}; save its grey values as 8-bit greyscale PNG if they are ids: as "
                f"colours they are not in the label table '{space.name}'; mend the file or the table"
            )
        return space.classify_colours(pixels, path)
    return space.classify(pixels, path)


def read_label_pixels(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """A label file's (ids [H,W], None), (colours [H,W,3], None) or (palette indices [H,W], palette [256,3])."""
    return _label_pixels(path, _read_picture(path))


def read_sketch_pixels(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """A label file with free pixels, transparent or of index 255: as `read_label_pixels`, and which are free [H,W].

    Free pixels of what is read hold what one that is not holds.
    """
    picture, free = _open_picture(path)
    if picture.mode == "LA":  # ids beside an alpha channel
        pixels, palette = np.array(picture)[..., 0], None
    else:
        pixels, palette = (None if value is None else value.copy() for value in _label_pixels(path, picture))
    if pixels.ndim == 2:
        free = free | (pixels == 255)
    if not free.all():
        pixels[free] = pixels[~free][0]
    return pixels, palette, free


def _label_pixels(path: Path, picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if picture.format not in LABEL_FORMATS:
        raise UserError(f"{path}: a {picture.format} file; {SAVE_8_BIT} (lossy formats change ids)")
    if picture.format == "TIFF":
        if picture.info.get("compression") in LOSSY_TIFF:
            how = picture.info["compression"]
            raise UserError(f"{path}: a TIFF compressed as {how}, which changes ids; {SAVE_8_BIT}")
        if picture.mode in ("1", "L") and picture.tag_v2.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
            raise UserError(f"{path}: a TIFF of inverted greys, which programs read in two ways; {SAVE_8_BIT}")
    bits = _bits(path, picture)
    if bits > 8:
        raise UserError(f"{path}: a {bits}-bit label; {SAVE_8_BIT}")
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
        return pixels // (255 // (2**bits - 1)), None
    if picture.mode in ("RGB", "RGBA"):
        return pixels[..., :3], None
    raise UserError(f"{path}: a label of mode {picture.mode}; save it without alpha channel, or {SAVE_8_BIT}")


def read_raw_ids(path: Path) -> np.ndarray:
    """ids uint8 [H,W] as they are in the file, where there is no table"""
    return raw_ids_of(*read_label_pixels(path), path)


def raw_ids_of(pixels: np.ndarray, colours: np.ndarray | None, path: Path) -> np.ndarray:
    """The same of what `read_label_pixels` gave."""
    if pixels.ndim == 3:
        how = "save its grey values" if (pixels == pixels[..., :1]).all() else "save labels"
        raise UserError(
            f"{path}: colour-coded; give a table with its colours, --labelspace FILE.json, or {how} as 8-bit greyscale "
            "PNG of ids"
        )
    if colours is not None and _is_shrunk_greyscale(pixels, colours):
        raise UserError(f"{path}: a palette of greys in an order of its own; {SAVE_8_BIT}")
    return pixels


def _are_ids_as_colours(rgb: np.ndarray, space: LabelSpace) -> bool:
    """Is every pixel [H,W,3] grey, and half of the greys at least no colour of the table?"""
    if not (rgb == rgb[..., :1]).all():
        return False
    greys = [(value,) * 3 for value in np.unique(rgb[..., 0]).tolist()]
    outside = [grey for grey in greys if not space.classes_of_colour(grey) and grey not in space.ignored]
    return 2 * len(outside) >= len(greys)


def _is_shrunk_greyscale(indices: np.ndarray, colours: np.ndarray) -> bool:
    """Programs that shrink PNGs turn greyscale into a palette of the greys that occur: then the greys are the ids."""
    used = np.unique(indices)
    shown = colours[used]
    return bool((shown == shown[:, :1]).all() and (shown[:, 0] != used).any())


def _classify_palette(path, indices, colours, space, palette) -> tuple[np.ndarray, np.ndarray]:
    """A palette may be there for show, over ids, or may be what the table's colours speak of. Guessing wrong would
    train on the wrong classes, so where both readings are possible and differ, the user has to say which."""
    if palette == "ids":
        return space.classify(indices, path)
    if palette == "colours" or not space.has_raw_ids:
        return space.classify_palette(indices, colours, path)
    used = np.unique(indices).tolist()
    by_id = [space.classes_of_id(i) for i in used]
    by_colour = [space.classes_of_colour(tuple(colours[i].tolist())) for i in used]
    differ = any(c and i and not set(i) <= set(c) for i, c in zip(by_id, by_colour, strict=True))
    if differ or (not all(by_colour) and _is_shrunk_greyscale(indices, colours)):
        raise UserError(
            f"{path}: a palette whose colours say other classes than its indices; "
            "say --palette ids or --palette colours, or save it as 8-bit greyscale PNG of ids"
        )
    if space.unlisted != "error" and all(by_colour) and not all(by_id):
        return space.classify_palette(indices, colours, path)
    try:
        return space.classify(indices, path)
    except OutsideTable as by_index:
        try:
            return space.classify_palette(indices, colours, path)
        except UserError:
            raise by_index from None


def _read_picture(path: Path) -> Image.Image:
    """A picture that looks as it is stored: one, upright and opaque."""
    picture, transparent = _open_picture(path)
    if transparent.any():
        raise UserError(f"{path}: a picture with transparent parts; save it opaque, without alpha channel")
    return picture


def _open_picture(path: Path) -> tuple[Image.Image, np.ndarray]:
    """One picture, upright; and which of its pixels show what is behind them, bool [H,W]."""
    with _reporting(path), Image.open(path) as picture:
        # Asked before it is loaded, because Pillow then turns a TIFF and takes its tag out; of other formats the tag
        # may come behind the pixels.
        orientation = _orientation(picture) if picture.format == "TIFF" else 1
        pictures = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        picture.load()
        orientation = orientation if orientation != 1 else _orientation(picture)
        transparent = _transparent_pixels(path, picture)
    if pictures > 1:
        raise UserError(f"{path}: {pictures} pictures in one file; save the one that is meant")
    if orientation in range(2, 9):  # some programs obey it and some don't, so the rest of the pair may fit either
        raise UserError(
            f"{path}: turned or mirrored by its EXIF tag (orientation {orientation}), which the other picture of "
            "its pair need not be; save it as it is shown (mogrify -auto-orient), or take the tag out"
        )
    picture.info.pop("transparency", None)  # of a colour, of which Pillow would warn
    return picture, transparent


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (*DAMAGED, TypeError):  # a tag that can't be read turns no picture
        return 1


def _transparent_pixels(path: Path, picture: Image.Image) -> np.ndarray:
    """Pixels made so by an alpha channel, or by a colour or palette entries that say so: bool [H,W]"""
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return np.asarray(picture.convert("RGBA"))[..., 3] < 255
    said = picture.info.get("transparency")
    if said is None:
        return np.zeros((picture.height, picture.width), bool)
    pixels = np.asarray(picture)
    if picture.mode == "P":
        entries = [i for i, alpha in enumerate(said) if alpha < 255] if isinstance(said, bytes) else [said]
        return np.isin(pixels, entries)
    bits = _bits(path, picture)  # of the colour that is said; Pillow makes pixels of other depths 8-bit
    if picture.mode == "L" and bits < 8:
        said = said * 255 // (2**bits - 1)
    if picture.mode == "RGB" and bits > 8:
        said = tuple(value >> (bits - 8) for value in said)
    return (pixels == said).reshape(*pixels.shape[:2], -1).all(-1)


def _bits(path: Path, picture: Image.Image) -> int:
    """Bits of a sample as they are in the file"""
    if picture.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24]
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(TIFF_BITS, (1,)))
    return 8


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


# --- Writing: files that are whole or not there, and what the system says against them ---


@contextlib.contextmanager
def replacing(path: str | Path, durable: bool = False, shared: bool = False, ending: str | None = None):
    """Yields a name beside `path` to write to. Without an error that file takes the place of `path`, else it goes.

    durable: on the disk before it does so, and the new name too; shared: several processes may write this file at once.
    ending: of that name; by default that of `path`, because libraries take from it what to write.
    """
    path = Path(path)
    own = f"{os.getpid()}." if shared else ""
    temporary = path.with_name(f".{path.stem}.{own}partial{path.suffix if ending is None else ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)  # a rename is on the disk when its folder is
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(path: str | Path, remedy: str):
    """Turns what the system says against writing `path` into one sentence, which ends with what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); {remedy}") from error


def sha256(path: Path) -> str:
    """64 hex digits of a file's content"""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
