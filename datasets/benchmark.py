"""python -m datasets.benchmark: how fast the packed store gives batches, and how that compares with decoding PNGs.

Draws a few frames of 1024x2048, saves them as PNGs, packs them at 256x512, and times on one core, in one run:
  layouts  label maps at 64x128 from the store, and from the label PNG (decode, remap, nearest)
  pairs    images with labels at 256x512 and flips from the store, and from both PNGs (decode, remap, resize)
Files are in the system's cache in all four cases.

Examples:
    python -m datasets.benchmark --pairs 2048
    python -m datasets.benchmark --seconds 10
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from datasets.errors import Parser, exit_on_user_error, number
from datasets.files import read_image, read_label
from datasets.labels import load_space
from datasets.packed import open_store
from datasets.packing import Entry, StoreWriter
from datasets.pairs import resize_image, resize_labels
from datasets.reader import Reader
from datasets.sources.toy_street import draw

SOURCE, PACKED, LAYOUT = (1024, 2048), (256, 512), (64, 128)
FRAMES = 4
TARGETS = {"layouts": 10_000, "pairs": 400}  # a second
TARGET_RATIO = 30
SPACE = load_space("toy_street")


def make_parser() -> Parser:
    parser = Parser("python -m datasets.benchmark", __doc__)
    pairs, seconds = number(int, at_least=64), number(float, above=0)  # a batch of layouts are 64
    parser.add_argument("--pairs", type=pairs, default=512, help="pairs in the store, half a MB each")
    parser.add_argument("--seconds", type=seconds, default=3.0, help="time for each of the four figures")
    return parser


@exit_on_user_error
def main(argv=None) -> None:
    args = make_parser().parse_args(argv)
    with on_one_core(), tempfile.TemporaryDirectory() as directory:
        sources = save_sources(Path(directory))
        reader = Reader(pack_repeatedly(sources, Path(directory) / "store", args.pairs), seed=0)
        rates = {
            "layouts": (
                rate(lambda seen: reader.layouts(seen, 64, LAYOUT[0]), 64, args.seconds),
                rate(lambda seen: decode_layout(sources[seen % FRAMES][1]), 1, args.seconds),
            ),
            "pairs": (
                rate(lambda seen: reader.pairs(seen, 16), 16, args.seconds),
                rate(lambda seen: decode_pair(*sources[seen % FRAMES]), 1, args.seconds),
            ),
        }
    print(f"{'':8} {'packed/s':>10} {'wanted':>8} {'decoding/s':>11} {'ratio':>7} {'wanted':>7}")
    for what, (packed, decoded) in rates.items():
        print(f"{what:8} {packed:10.0f} {TARGETS[what]:8} {decoded:11.1f} {packed / decoded:7.0f} {TARGET_RATIO:7}")


@contextlib.contextmanager
def on_one_core():
    if not hasattr(os, "sched_setaffinity"):  # macOS; nothing here starts threads by itself
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def rate(read, batch_size: int, seconds: float) -> float:
    """Pairs a second of read(images_seen), after a first call that is not counted."""
    read(0)
    seen, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        read(seen)
        seen += batch_size
    return seen / (time.perf_counter() - start)


def save_sources(directory: Path) -> list[tuple[Path, Path]]:
    files = []
    for seed in range(FRAMES):
        paths = directory / f"{seed}_image.png", directory / f"{seed}_label.png"
        for path, array in zip(paths, draw(seed, *SOURCE), strict=True):
            Image.fromarray(array).save(path)
        files.append(paths)
    return files


def pack_repeatedly(sources: list[tuple[Path, Path]], target: Path, count: int):
    """A split of `count` pairs, the sources over and over: the reader can't tell."""
    pairs = [decode_pair(*paths) for paths in sources]
    entries = [Entry(f"pair{i}", *PACKED) for i in range(count)]
    with StoreWriter(target, "benchmark", SPACE, *PACKED, "train", {"train": entries}) as writer:
        for i in range(count):
            writer.write("train", i, *pairs[i % FRAMES])
    return open_store(target)["train"]


def decode_layout(label: Path):
    return resize_labels(read_label(label, SPACE), (0, 0, SOURCE[1], SOURCE[0]), *LAYOUT)


def decode_pair(image: Path, label: Path):
    whole = (0, 0, SOURCE[1], SOURCE[0])
    labels = read_label(label, SPACE)
    return resize_image(read_image(image), whole, *PACKED), resize_labels(labels, whole, *PACKED)


if __name__ == "__main__":
    main()
