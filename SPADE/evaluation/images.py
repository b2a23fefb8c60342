"""Scores of SPADE on real layouts, the floor under every score, and the record that a scoring leaves."""

import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from datasets.errors import UserError
from datasets.reader import layouts_in_order
from SPADE.engine.checkpoint import file_hash, has_average
from SPADE.engine.config import require
from SPADE.engine.distributed import from_first, rank, shared_out
from SPADE.engine.evaluation import evaluating
from SPADE.evaluation.features import Extractor, with_features
from SPADE.evaluation.metrics import score_images
from SPADE.evaluation.reference import real_rows
from SPADE.pretrained import inception_weights
from SPADE.sampling import render
from SPADE.settings import ImageScores

COLUMNS = (
    ("fsd", "fsd_grid", "swd")
    + ("fid", "fid_released", "kid", "kid_std", "fd", "kd", "kd_std", "precision", "recall")
    + ("diversity", "diversity_of_real")
)


def find_extractor(config: ImageScores, height: int, width: int, device):
    """(feature network or None, why it is None, which is said).

    A file that was named must be there; where nothing was named and no weights can be had, FID is left out. The network
    sees a blank image of the given size, so that one that fails does so before hours of training or drawing.
    """
    extractor, left_out = None, "--no_fid was given"
    if config.feature_extractor is not None:
        path = Path(config.feature_extractor)
        require(path.is_file(), "feature_extractor", path, "a file", "name a feature network's file")
        extractor = Extractor(path, standard=False)
    elif config.fid:
        try:
            from_first(inception_weights, config.inception_weights)  # the other processes find what is downloaded here
            extractor = Extractor(Path(inception_weights(config.inception_weights)), standard=True)
        except UserError as error:
            if config.inception_weights:
                raise
            left_out = str(error)
    if extractor:
        extractor.features(torch.zeros(1, 3, height, width, dtype=torch.uint8), device)
        return extractor, None
    if rank() == 0:
        print(f"FID is left out of the scores: {left_out}")
    return None, left_out


def draw_rows(draw, num: int, device, extractor) -> dict | None:
    """draw: range of numbers -> {"images": uint8 [n,3,h,w], ...}. These and "features", of range(num): the processes
    share the work, and process 0 gets the rows."""
    return shared_out(with_features(draw, extractor, device), num)


def against_real(rows: dict | None, num: int, store, device, extractor, left_out=None, height=None) -> dict:
    """Scores of images and features, as of `draw_rows`, against the first `num` real ones of the reference split.

    height: of the images, default the store's. All processes call it, process 0 computes, all get the scores.
    """
    real = real_rows(store, store.reference, num, height or store.height, extractor, device)

    def scores():
        features = rows.get("features"), real.get("features")
        why = left_out or "no feature network was given"
        return score_images(rows["images"], real["images"], extractor, device, *features, why)

    return from_first(scores)


def score_real_layouts(generator, store, num: int, device, extractor, left_out=None) -> dict:
    """Images drawn from the reference split's layouts against its images."""
    split = store[store.reference]

    def draw(numbers):
        labels = layouts_in_order(split, numbers.start, numbers.stop, store.height)
        with evaluating(generator):
            return {"images": render(generator, labels, numbers, device)}

    rows = draw_rows(draw, min(num, len(split)), device, extractor)
    return against_real(rows, num, store, device, extractor, left_out)


def score_floor(store, num: int, device, extractor, left_out=None, height: int | None = None) -> dict:
    """Real images of the other split against the reference split's: no generator can be expected below."""
    rows = real_rows(store, other_split(store), num, height or store.height, extractor, device)
    return against_real(rows, num, store, device, extractor, left_out, height)


def other_split(store) -> str:
    """The split that is not the reference of the scores."""
    return next(name for name in store.splits if name != store.reference)


def make_record(checkpoints: dict, averaged: bool, store, num: int, seed: int, scores: dict, left_out) -> dict:
    """One JSON-ready record: what was scored, how, on what, and with which versions.

    averaged: were the averages of the weights scored, where there are some?
    """
    reference = store[store.reference]
    files = {
        name: {"file": str(path), "sha256": file_hash(path), "weights": scored_weights(path, averaged)}
        for name, path in checkpoints.items()
    }
    return {
        "time": datetime.now().isoformat(timespec="seconds"),
        "checkpoints": files,
        "data": {"name": store.name, "label_space": store.label_space.hash, "reference_split": store.reference},
        "size": [store.height, store.width],
        "counts": {"generated": num, "reference": min(num, len(reference))},
        "seed": seed,
        "fid_left_out": left_out,
        "scores": scores,
        "versions": {name: version(name) for name in ("torch", "numpy", "torch-fidelity")},
    }


def scored_weights(path: Path, averaged: bool) -> str:
    return "average" if averaged and has_average(path) else "last"


def append_record(record: dict, folder: Path):
    """One line in folder/metrics.jsonl. Where that can't be written, this is said and no more."""
    path = folder / "metrics.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")  # by a process that was killed
        with open(path, "a") as file:
            file.write("\n" * torn + json.dumps(record) + "\n")
    except OSError as error:
        print(f"warning: the scores are not added to {path} ({error.strerror})", flush=True)


def record_in_training(scores: dict, images_seen: int, config, store, left_out, **more):
    """The line of an evaluation within a training: it names no checkpoint, but the images seen."""
    if rank() == 0:
        record = make_record({}, config.ema, store, config.num_eval, 0, scores, left_out)
        append_record({**record, "images_seen": images_seen, **more}, Path(config.weights) / config.name)


def numbers(scores: dict, prefix: str = "") -> dict:
    """The scores among what a record says of one comparison, SWD by level, as {name: number}."""
    flat = {key: value for key, value in scores.items() if key in COLUMNS}
    if "swd" in scores:
        flat["swd"] = scores["swd"]["mean"]
        flat |= {f"swd_{level}": value for level, value in scores["swd"].items() if level != "mean"}
    return {prefix + name: value for name, value in flat.items()}


def table(scores: dict) -> str:
    """{row: record} -> text. Columns that no row has are left out; numbers that a row doesn't have are blank."""
    rows = {name: numbers(record) for name, record in scores.items()}
    columns = [c for c in COLUMNS if any(c in row for row in rows.values())]
    width = max(len(name) for name in rows) + 2
    cells = {c: max(len(c) + 2, 11) for c in columns}
    lines = [" " * width + "".join(f"{c:>{cells[c]}}" for c in columns)]
    for name, row in rows.items():
        line = "".join(f"{row[c]:{cells[c]}.4g}" if c in row else " " * cells[c] for c in columns)
        lines.append((f"{name:<{width}}" + line).rstrip())
    return "\n".join(lines)
