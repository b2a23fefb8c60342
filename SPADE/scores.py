"""Scores of SPADE on real layouts, the floor under every score, and the record that a scoring leaves."""

import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from datasets.errors import UserError
from SPADE.engine.checkpoint import file_hash
from SPADE.engine.config import require
from SPADE.engine.data import ordered_pairs
from SPADE.engine.evaluation import evaluating
from SPADE.metrics.features import Extractor
from SPADE.metrics.fidelity import FEWEST_IMAGES
from SPADE.metrics.scores import score_images
from SPADE.pretrained import inception_weights
from SPADE.reference import real_features, real_images
from SPADE.sampling import render

COLUMNS = (
    ("fsd", "fsd_grid", "swd")
    + ("fid", "fid_released", "kid", "kid_std", "fd", "kd", "kd_std", "precision", "recall")
    + ("diversity", "diversity_of_real")
)


def find_inception(config):
    """What `find_extractor` finds for a training's settings."""
    return find_extractor(config.fid, config.inception_weights)


def find_extractor(fid: bool, inception=None, other=None):
    """(feature network or None, why it is None).

    fid: False leaves it out; inception: file of the standard weights, default the cache, else a download; other: file
    of another feature network to take instead. A file that was named must be there; where nothing was named and no
    weights can be had, FID is left out.
    """
    if other is not None:
        require(Path(other).is_file(), "feature_extractor", other, "a file", "name a feature network's file")
        return Extractor(Path(other), standard=False), None
    if not fid:
        return None, "--no_fid was given"
    try:
        return Extractor(Path(inception_weights(inception)), standard=True), None
    except UserError as error:
        if inception:
            raise
        return None, str(error)


def against_real(fake, store, device, extractor, left_out=None, num: int | None = None) -> dict:
    """Scores of images uint8 [N,3,h,w] against the first `num` (default N) real ones of the reference split."""
    real = real_images(store[store.reference], num or len(fake), fake.shape[2])
    features = None
    if extractor and min(len(fake), len(real)) >= FEWEST_IMAGES:
        features = real_features(store, store.reference, real, extractor, device)
    return score_images(fake, real, extractor, device, features, left_out or "no feature network was given")


def score_real_layouts(generator, store, num: int, device, extractor, left_out=None) -> dict:
    """Images drawn from the reference split's layouts against its images."""
    with evaluating(generator):
        drawn = [render(generator, labels, device) for _, labels in ordered_pairs(store[store.reference], num)]
    return against_real(torch.cat(drawn), store, device, extractor, left_out)


def score_floor(store, num: int, device, extractor, left_out=None, height: int | None = None) -> dict:
    """Real images of the other split against the reference split's: no generator can be expected below."""
    return against_real(real_images(store[other_split(store)], num, height), store, device, extractor, left_out, num)


def other_split(store) -> str:
    """The split that is not the reference of the scores."""
    return next(name for name in store.splits if name != store.reference)


def make_record(checkpoints: dict, store, num: int, seed: int, scores: dict, left_out: str | None) -> dict:
    """One JSON-ready record: what was scored, how, on what, and with which versions."""
    reference = store[store.reference]
    return {
        "time": datetime.now().isoformat(timespec="seconds"),
        "checkpoints": {name: {"file": str(path), "sha256": file_hash(path)} for name, path in checkpoints.items()},
        "data": {"name": store.name, "label_space": store.label_space.hash, "reference_split": store.reference},
        "size": [store.height, store.width],
        "counts": {"generated": num, "reference": min(num, len(reference))},
        "seed": seed,
        "fid_left_out": left_out,
        "scores": scores,
        "versions": {name: version(name) for name in ("torch", "numpy", "torch-fidelity")},
    }


def append_record(record: dict, folder: Path):
    """One line in folder/metrics.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


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
