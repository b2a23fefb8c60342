"""Scores of SPADE on real layouts, the floor under every score, and the record that a scoring leaves."""

import json
from datetime import datetime
from pathlib import Path

import numpy
import torch

from datasets.errors import UserError
from SPADE.engine.checkpoint import file_hash
from SPADE.engine.data import ordered_pairs
from SPADE.engine.evaluation import evaluating
from SPADE.metrics.scores import score_images
from SPADE.pretrained import inception_weights
from SPADE.sampling import render

COLUMNS = ("fsd", "fsd_grid", "swd", "fid", "kid", "kid_std", "precision", "recall")


def find_inception(config):
    """(path of the FID network or None, why it is None), never an error: FID is left out where it cannot be had."""
    if not config.fid:
        return None, "--no_fid was given"
    try:
        return inception_weights(config.inception_weights), None
    except UserError as error:
        if config.inception_weights:
            raise
        return None, str(error)


def real_images(split, num: int):
    """The first images of a split, uint8 [n,3,H,W]."""
    return torch.cat([images for images, _ in ordered_pairs(split, num)])


def score_real_layouts(generator, store, num: int, device, inception) -> dict:
    """Images drawn from the reference split's layouts against its images."""
    drawn, real = [], []
    with evaluating(generator):
        for images, labels in ordered_pairs(store[store.reference], num):
            drawn.append(render(generator, labels, device))
            real.append(images)
    return score_images(torch.cat(drawn), torch.cat(real), inception, device)


def score_floor(store, num: int, device, inception) -> dict:
    """Real images of the other split against the reference split's: no generator can be expected below."""
    other = next(name for name in store.splits if name != store.reference)
    return score_images(real_images(store[other], num), real_images(store[store.reference], num), inception, device)


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
        "versions": {"torch": torch.__version__, "numpy": numpy.__version__},
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
    lines = [" " * width + "".join(f"{c:>11}" for c in columns)]
    for name, row in rows.items():
        lines.append(f"{name:<{width}}" + "".join(f"{row[c]:11.4g}" if c in row else " " * 11 for c in columns))
    return "\n".join(lines)
