"""What all scoring programs share: flags, the data a checkpoint is scored against, what is written and printed."""

import contextlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

from datasets.disk import replacing
from datasets.errors import UserError
from datasets.packed import Store, open_store
from SPADE.engine.config import require, setting
from SPADE.engine.distributed import rank
from SPADE.evaluation.images import append_record, make_record, table
from SPADE.settings import ImageScores


@dataclass(frozen=True, kw_only=True)
class Scoring(ImageScores):
    store: str | None = setting(None, "packed data set to score against; default the one it was trained on")
    results: str = setting("results", "pictures and scores go to RESULTS/NAME, the name of the checkpoint's folder")
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    seed: int = setting(0, "of the first latent; sample i has seed + i", at_least=0)
    ema: bool = setting(True, "score the averages of the weights, where there are some (--no_ema: the last weights)")


def check_samples(config: Scoring, sets: int = 1):
    last = config.seed + sets * config.num_eval
    require(last < 2**63, "seed", config.seed, "below 2^63 with all samples", "lower it")


def stored_data(content: dict, path, config: Scoring) -> Store:
    """The store that is named, else the one that the checkpoint was trained on; checked to fit the checkpoint."""
    where = config.store or content.get("config", {}).get("store")
    if where is None:
        raise UserError(f"{path} doesn't say what data it was trained on; pass --store, a packed store of that data")
    store = open_store(where)
    check_store(content["data"], path, store, where)
    return store


def check_store(data: dict, path: Path, store, store_path):
    """A checkpoint and the data that it is to be trained on or scored against."""
    if data["name"] != store.name:
        raise UserError(
            f"--store {store_path} is {store.name}, but {path} was trained on {data['name']}; "
            "pass the store of that data set"
        )
    wanted = {"label_space_hash": store.label_space.hash, "label_space": store.label_space.to_dict()}
    check_label_space(data, path, wanted, f"--store {store_path}")
    if (data["height"], data["width"]) != (store.height, store.width):
        raise UserError(
            f"--store {store_path} has images of {store.height}x{store.width}, but {path} was trained on "
            f"{data['height']}x{data['width']}; prepare a store of that size, or train again"
        )


def check_label_space(a: dict, a_path, b: dict, b_name: str):
    if a["label_space_hash"] != b["label_space_hash"]:
        counts = [len(data["label_space"]["classes"]) for data in (a, b)]
        raise UserError(
            f"{a_path} has {counts[0]} classes and {b_name} has {counts[1]}, or other ones; "
            "train both stages on one label space"
        )


@contextlib.contextmanager
def warnings_in_the_record():
    """What scores of few images are worth is in the record and under the table; it needn't be said in between."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mostly bias", UserWarning)
        yield


def make_results(folder: Path):
    """Before the work, so that a folder that can't be made is refused then."""
    with writing_results(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing_results(folder: Path):
    """What the system says against writing into the folder becomes one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{folder} cannot be written ({reason}); make room, or name another --results") from error


def finish(scores, left_out, files: dict, config: Scoring, store: Store, folder: Path, weights: Path) -> dict:
    """Writes the record to folder/scores.json and as a line of weights/metrics.jsonl; prints the table. Process 0."""
    record = make_record(files, config.ema, store, config.num_eval, config.seed, scores, left_out)
    if rank() > 0:
        return record
    print(table(scores))
    append_record(record, weights)
    with writing_results(folder), replacing(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    for kind, row in scores.items():
        for name, repeats in row.get("repeats", {}).items():
            count = len(repeats["values"])
            print(f"{kind}: {name} {repeats['mean']:.4g} +- {repeats['std']:.2g} over {count} sets of samples")
    for message in sorted({row["warning"] for row in scores.values() if "warning" in row}):
        print(f"warning: {message}")
    print(f"pictures: {', '.join(str(file) for file in sorted(folder.glob('*.png')))}")
    print(f"scores:   {folder / 'scores.json'}, {weights / 'metrics.jsonl'}")
    return record
