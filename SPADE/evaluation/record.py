"""The traces of a scoring: one JSON record, its line in the run's metrics.jsonl, the table on the screen."""

import contextlib
import functools
import json
import warnings
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from datasets.disk import replacing
from datasets.errors import UserError
from SPADE.engine.distributed import rank
from SPADE.evaluation.metrics import METRICS, Evaluation

COLUMNS = (
    ("fsd", "fsd_grid", "swd")
    + ("fid", "fid_released", "kid", "kid_std", "fd", "kd", "kd_std", "precision", "recall")
    + ("diversity", "diversity_of_real")
    + ("miou", "accuracy", "fwiou")
)


def make_record(checkpoints: dict, evaluation: Evaluation, scores: dict) -> dict:
    """One JSON-ready record: what was scored, how, on what, and with which versions.

    checkpoints: name -> {"file", "sha256", "weights"}.
    """
    store, num = evaluation.store, evaluation.num
    return {
        "time": datetime.now().isoformat(timespec="seconds"),
        "checkpoints": checkpoints,
        "data": {"name": store.name, "label_space": store.label_space.hash, "reference_split": store.reference},
        "size": [store.height, store.width],
        "counts": {"generated": num, "reference": min(num, len(store[store.reference]))},
        "seed": evaluation.seed,
        "fid_left_out": None if evaluation.network else evaluation.no_network,
        **({"segmenter": evaluation.segmenter.described} if evaluation.segmenter else {}),
        "scores": scores,
        "versions": {name: version(name) for name in ("torch", "numpy", "torch-fidelity")},
    }


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


def record_in_training(scores: dict, images_seen: int, config, evaluation: Evaluation, **more):
    """The line of an evaluation within a training: it names no checkpoint, but the images seen."""
    if rank() == 0:
        record = make_record({}, evaluation, scores)
        append_record({**record, "images_seen": images_seen, **more}, Path(config.weights) / config.name)
        for line in left_out(record):
            say_once(line)


def left_out(record: dict) -> list[str]:
    """A sentence for each score that samples were too few or too small for."""
    rows = {}
    for kind, row in record["scores"].items():
        for name in METRICS:
            reason = row.get(f"{name}_left_out")
            if reason not in (None, record["fid_left_out"]):  # the latter was said already
                rows.setdefault((name, reason), []).append(kind)
    return [f"{name} is left out of {'; '.join(kinds)}: {reason}" for (name, reason), kinds in rows.items()]


@functools.cache
def say_once(line: str):
    """Prints a line that a training would repeat at every evaluation."""
    print(line, flush=True)


def flat_scores(row: dict, prefix: str = "") -> dict:
    """The scores among what a record says of one comparison, SWD by level, as {name: number}."""
    flat = {key: value for key, value in row.items() if key in COLUMNS}
    if "swd" in row:
        flat["swd"] = row["swd"]["mean"]
        flat |= {f"swd_{level}": value for level, value in row["swd"].items() if level != "mean"}
    return {prefix + name: value for name, value in flat.items()}


def table(scores: dict) -> str:
    """{row: record} -> text. Columns that no row has are left out; numbers that a row doesn't have are blank."""
    rows = {name: flat_scores(record) for name, record in scores.items()}
    columns = [c for c in COLUMNS if any(c in row for row in rows.values())]
    width = max(len(name) for name in rows) + 2
    cells = {c: max(len(c) + 2, 11) for c in columns}
    lines = [" " * width + "".join(f"{c:>{cells[c]}}" for c in columns)]
    for name, row in rows.items():
        line = "".join(f"{row[c]:{cells[c]}.4g}" if c in row else " " * cells[c] for c in columns)
        lines.append((f"{name:<{width}}" + line).rstrip())
    return "\n".join(lines)


@contextlib.contextmanager
def warnings_in_the_record():
    """Silences what is said of few images' scores: it is in the record and under the table."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mostly bias", UserWarning)
        yield


def make_results(folder: Path):
    """Makes the folder before the work, so that one that can't be made is refused then."""
    with writing_results(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing_results(folder: Path):
    """Turns what the system says against writing into the folder into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{folder} cannot be written ({reason}); make room, or name another --results") from error


def finish(record: dict, folder: Path, weights: Path):
    """Writes the record to folder/scores.json and as a line of weights/metrics.jsonl; prints the table."""
    scores = record["scores"]
    print(table(scores))
    append_record(record, weights)
    with writing_results(folder), replacing(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    for kind, row in scores.items():
        for name, repeats in row.get("repeats", {}).items():
            count = len(repeats["values"])
            print(f"{kind}: {name} {repeats['mean']:.4g} +- {repeats['std']:.2g} over {count} sets of samples")
    for message in sorted({row["warning"] for row in scores.values() if "warning" in row}) + left_out(record):
        print(f"warning: {message}")
    print(f"pictures: {', '.join(str(file) for file in sorted(folder.glob('*.png')))}")
    print(f"scores:   {folder / 'scores.json'}, {weights / 'metrics.jsonl'}")
