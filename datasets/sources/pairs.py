"""What the sources that read folders of images and label PNGs share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, find_files, pair_up, read_image, read_label
from datasets.labels import LabelSpace
from datasets.packing import Item, central_crop, crop_and_resize
from datasets.writing import Entry


def find_directory(source: str | Path, inside: str) -> Path | None:
    """source/inside, or source/*/inside as when the zip's own top folder is in between; None where neither exists."""
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"--source {source}: no such directory; give the folder that holds the data set")
    candidates = [source / inside] if (source / inside).is_dir() else sorted(source.glob(f"*/{inside}"))
    candidates = [path for path in candidates if path.is_dir()]
    if len(candidates) > 1:
        raise UserError(
            f"{candidates[1]}: {candidates[0]} is there too; remove one, or point --source into one of them"
        )
    return candidates[0] if candidates else None


def pair_items(images: Path, labels: Path, height: int, width: int) -> list[Item]:
    """The pairs of two folders with the same file names; source of an item: (image path, label path)"""
    pairs = pair_up(find_files(images, IMAGE_SUFFIXES), find_files(labels, LABEL_SUFFIXES))
    return [Item(Entry(name, height, width), (image, label)) for name, image, label in pairs]


def load_pair(item: Item, space: LabelSpace, palette: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Checked, remapped, cropped to the centre and resized: image uint8 [h,w,3], train ids uint8 [h,w]"""
    image_path, label_path = item.source
    image, labels = read_image(image_path), read_label(label_path, space, palette)
    check_equal_sizes(image, labels, image_path, label_path)
    height, width = item.entry.height, item.entry.width
    return crop_and_resize(image, labels, central_crop(*labels.shape, width // height), height, width)


def check_equal_sizes(image: np.ndarray, labels: np.ndarray, image_path: Path, label_path: Path) -> None:
    if image.shape[:2] != labels.shape:
        raise UserError(
            f"{label_path}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image {image_path} has "
            f"{image.shape[1]}x{image.shape[0]}; make them the same size or remove the pair"
        )
