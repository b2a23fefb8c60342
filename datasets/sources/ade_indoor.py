"""ADE-Indoor: 4377 / 433 pictures of ten kinds of rooms, 95 classes.

Either the authors' archive, unpacked (`ADE15c_indoor_{img,lbl,val_img,val_lbl}/SCENE`), or the official release
`ADEChallengeData2016`. THE CLASS TABLE OF THE LATTER DIFFERS FROM THE AUTHORS': it is the 94 of the release's 150
classes that cover most pixels of the training pictures, and unknown. Which 95 the authors chose is not published, so
their classes have numbers for names. Scores on the one are not comparable with scores on the other.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.files import image_size, read_image, read_label, read_raw_ids
from datasets.labels import LabelClass, LabelSpace, distinct_colours, load_space
from datasets.packing import Entry, Item, Plan, Source, in_parallel
from datasets.pairs import find_directory, find_files, need_directory, note_counts, pair_up, resize_image, resize_labels

SCENES = (
    "airport_terminal", "bathroom", "bedroom", "conference_room", "corridor",
    "dining_room", "hotel_room", "kitchen", "living_room", "office",
)  # fmt: skip
PUBLISHED = {"train": 4377, "val": 433}
SHORT_EDGE = 286 / 256  # of stored pictures, in heights: training crops a random square out of them
CHALLENGE_CLASSES, KEPT_CLASSES = 150, 94


def add_arguments(parser):
    parser.add_argument("--source", required=True, help="folder with ADE15c_indoor_* or with ADEChallengeData2016")
    parser.set_defaults(height=256, aspect=1)


def plan(args) -> Plan:
    if args.width != args.height:
        raise UserError(f"--width {args.width}: pictures of rooms are cropped to squares; use {args.height}")
    if find_directory(args.source, "ADE15c_indoor_img"):
        folders = {"train": ("ADE15c_indoor_img", "ADE15c_indoor_lbl"),
                   "val": ("ADE15c_indoor_val_img", "ADE15c_indoor_val_lbl")}  # fmt: skip
        pairs = {split: _pairs(args.source, *both) for split, both in folders.items()}
        space = load_space("ade_indoor")
    elif find_directory(args.source, "annotations/training"):
        folders = {"train": ("images/training", "annotations/training"),
                   "val": ("images/validation", "annotations/validation")}  # fmt: skip
        indoor = _indoor_names(args.source)
        pairs = {split: _pairs(args.source, *both, indoor) for split, both in folders.items()}
        space = most_frequent_classes([label for _, _, label in pairs["train"]], args.source, args.workers)
        print("note: ADEChallengeData2016's classes, 94 of 150; this table differs from the authors'", file=sys.stderr)
    else:
        raise UserError(
            f"--source {args.source}: neither ADE15c_indoor_img nor ADEChallengeData2016 in it; "
            "get one with bash datasets/download_ade.sh"
        )
    short_edge = round(args.height * SHORT_EDGE)
    splits = {split: [_item(*pair, short_edge) for pair in found] for split, found in pairs.items()}
    note_counts(splits, PUBLISHED)
    return Plan("ade_indoor", space, args.height, args.width, "val", splits, functools.partial(load_room, space=space))


def load_room(item: Item, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """image uint8 [h,w,3], train ids uint8 [h,w]. Image and label may differ in size; both go to theirs at once."""
    image_path, label_path = item.source
    image, labels = read_image(image_path), read_label(label_path, space)
    size = (item.entry.height, item.entry.width)
    return resize_image(image, _whole(image), *size), resize_labels(labels, _whole(labels), *size)


def _whole(picture: np.ndarray) -> tuple[int, int, int, int]:
    return 0, 0, picture.shape[1], picture.shape[0]


def most_frequent_classes(labels: list[Path], source: str, workers: int) -> LabelSpace:
    """The 94 of the challenge's classes 1..150 with most pixels in these files, in its order, and unknown."""
    pixels = sum(in_parallel(_count_ids, labels, workers, "counting classes"))
    by_pixels = sorted(range(1, CHALLENGE_CLASSES + 1), key=lambda raw_id: (-pixels[raw_id], raw_id))
    kept = sorted(by_pixels[:KEPT_CLASSES])
    names, colours = _challenge_names(source), distinct_colours(KEPT_CLASSES)
    classes = [LabelClass(i, names[raw_id], colours[i], (raw_id,)) for i, raw_id in enumerate(kept)]
    rest = tuple(i for i in range(CHALLENGE_CLASSES + 1) if i not in kept)
    return LabelSpace("ade_indoor_challenge", (*classes, LabelClass(KEPT_CLASSES, "unknown", (0, 0, 0), rest)))


def _count_ids(path: Path) -> np.ndarray:
    return np.bincount(read_raw_ids(path).reshape(-1), minlength=256)


def _challenge_names(source: str) -> dict[int, str]:
    """Names from the release's own objectInfo150.txt (tab-separated: Idx Ratio Train Val Name), where that is there."""
    names = {raw_id: f"ade_{raw_id:03d}" for raw_id in range(1, CHALLENGE_CLASSES + 1)}
    for line in _read_lines(source, "objectInfo150.txt", required=False):
        index, *others = line.split("\t")
        if others and index.isdecimal() and int(index) in names:
            first = others[-1].split(",")[0].split(";")[0].strip()
            names[int(index)] = first if first not in names.values() else f"{first} {index}"
    return names


def _indoor_names(source: str) -> set[str]:
    lines = (line.split() for line in _read_lines(source, "sceneCategories.txt", required=True))
    return {words[0] for words in lines if len(words) > 1 and words[1] in SCENES}


def _read_lines(source: str, name: str, required: bool) -> list[str]:
    release = need_directory(source, "annotations/training").parent.parent
    path = release / name
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        if not required:
            return []
        raise UserError(f"{path}: missing, and it says which pictures are of rooms; unpack the release again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); unpack the release again") from None


def _pairs(source: str, images: str, labels: str, names: set[str] | None = None) -> list[tuple[str, Path, Path]]:
    found = [
        find_files(need_directory(source, images), (".jpg",)),
        find_files(need_directory(source, labels), (".png",)),
    ]
    if names is not None:
        found = [{key: path for key, path in files.items() if Path(key).name in names} for files in found]
    pairs = pair_up(*found)
    if not pairs:
        raise UserError(
            f"--source {source}: no picture of the ten kinds of rooms in {images}; unpack the release again"
        )
    return pairs


def _item(name: str, image: Path, label: Path, short_edge: int) -> Item:
    """Scaled so that the shorter edge has that many pixels; the larger of image and label says the proportions."""
    image_height, image_width = image_size(image)
    label_height, label_width = image_size(label)
    as_high = label_width * image_height / image_width  # the label's height if it had the image's proportions
    if abs(as_high - label_height) > max(2, 0.01 * label_height):
        raise UserError(
            f"{label}: {label_width}x{label_height} pixels has other proportions than its image {image} with "
            f"{image_width}x{image_height}; remove the pair or replace one of them"
        )
    height, width = max((image_height, image_width), (label_height, label_width))
    scale = short_edge / min(height, width)
    return Item(Entry(name, round(height * scale), round(width * scale)), (image, label))


SOURCE = Source(__doc__, add_arguments, plan)
