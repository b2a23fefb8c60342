"""What the sources that read folders of images and label PNGs share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.errors import UserError
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, read_image, read_label
from datasets.folders import find_pairs, pair_up
from datasets.labels import LabelSpace
from datasets.packing import Item
from datasets.writing import Entry


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
