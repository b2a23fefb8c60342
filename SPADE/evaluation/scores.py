"""Scores: what is compared with what, and where the results are written.

Samples of a model are compared with real images, whose features are computed once and kept; the floor is the distance
between the real splits. Results are one JSON record, its line in the run's metrics.jsonl, and a table on the screen.
"""

import contextlib
import functools
import hashlib
import json
import os
import warnings
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from datasets.files import explained, replacing
from datasets.reader import in_order, layouts_in_order
from SPADE.engine.distributed import from_first, rank, shared_out
from SPADE.engine.images import render
from SPADE.evaluation.features import Extractor, ImageScores, find_extractor
from SPADE.evaluation.metrics import METRICS, Evaluation, held_out_split, score, score_predictions, segmented

FORMAT = 1  # counts up when features of the same images by the same network come to be other numbers


def reference_layouts(store, height: int, num: int, split: str | None = None) -> torch.Tensor:
    """Real layouts that scores compare with (or of another split), uint8 [min(num, n),1,height,aspect*height]."""
    split = store[split or store.reference]
    return layouts_in_order(split, 0, min(num, len(split)), height)


def real_images(split, numbers: range, height: int | None = None):
    """Images of a split, never flipped nor cropped at random: uint8 [len(numbers),3,h,w]."""
    return in_order(split, numbers.start, numbers.stop, height)[0]


def cache_folder() -> Path | None:
    """None where there is no home directory, and no XDG_CACHE_HOME either."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if folder.startswith("~") else Path(folder) / "sbgan" / "reference_features"


def cache_key(store, split_name: str, num: int, height: int, extractor: Extractor) -> str:
    """Hash of all that the features depend on."""
    split = store[split_name]
    facts = {
        "images": [store.name, split_name, split.height, split.width, split.names[:num], split.crc32[:num]],
        "height": height,
        "network": extractor.digest,
        "versions": [FORMAT, version("torch-fidelity") if extractor.standard else None, torch.__version__],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def real_samples(split_name: str, evaluation: Evaluation) -> dict | None:
    """The first images of a split and their features, as of `shared_out`: {"images": [n,3,h,w], "features": [n,D]}.

    Empty where no images are compared.
    """
    if evaluation.height is None:
        return {}
    split, extractor = evaluation.store[split_name], evaluation.network
    num = min(evaluation.num, len(split))
    file = known = None
    if extractor and rank() == 0:
        if folder := cache_folder():
            file = folder / f"{cache_key(evaluation.store, split_name, num, evaluation.height, extractor)}.npy"
            known = read_cached(file, num)
        else:
            print("reference features are not kept for the next time: no home directory; set HOME or XDG_CACHE_HOME")
    to_compute = extractor and from_first(lambda: known is None)

    def draw(numbers):
        images = real_images(split, numbers, evaluation.height)
        return {"images": images} | ({"features": extractor.features(images, evaluation.device)} if to_compute else {})

    samples = shared_out(draw, num)
    if known is not None:
        samples["features"] = known
    elif file:
        write_cached(samples["features"].numpy(), file)
    return samples


def read_cached(file: Path, num: int):
    """Features [num,D] that were kept, or None."""
    try:
        found = torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError):  # not there, or damaged
        return None
    return found if found.ndim == 2 and len(found) == num else None


def write_cached(features, file: Path):
    """Writes features to the cache; where that fails, a line says so and nothing else happens."""
    try:
        with replacing(file, shared=True) as temporary:
            np.save(temporary, features)
    except OSError as error:
        print(f"reference features are not kept for the next time: {file.parent}: {error.strerror}")


def make_evaluation(config: ImageScores, store, device, height: int | None, seed: int = 0) -> Evaluation:
    """The evaluation of a model, with the feature network for images of this height; height None: of layouts alone."""
    network, no_network = None, "there are no images"
    if height:
        network, no_network = find_extractor(config, height, height * store.aspect, device)
    return Evaluation(store, device, config.num_eval, seed, height, network, no_network)


def draw_samples(draw, num: int, evaluation: Evaluation) -> dict | None:
    """Draws the samples of range(num), and finds their features. draw: numbers -> {"images": uint8 [n,3,h,w], ...}.

    The processes share the work, and process 0 gets the samples.
    """

    def drawn(numbers):
        samples = draw(numbers)
        if evaluation.network and "images" in samples:
            samples["features"] = evaluation.network.features(samples["images"], evaluation.device)
        if "images" in samples and {"layouts", "given"} & samples.keys():  # the baseline's images have none
            samples |= segmented(samples["images"], samples.pop("given", samples.get("layouts")), evaluation)
        return samples

    return shared_out(drawn, num)


def draw_from_noise(draw, evaluation: Evaluation) -> dict | None:
    """Draws the samples of the evaluation's seeds. draw: seeds -> {"images": uint8 [n,3,h,w], ...}."""
    return draw_samples(lambda numbers: draw([evaluation.seed + i for i in numbers]), evaluation.num, evaluation)


def against_reference(samples: dict | None, evaluation: Evaluation) -> dict:
    """Scores of samples, as of `draw_samples`, against as many real ones of the reference split.

    All processes call it, process 0 computes, all get the scores.
    """
    store = evaluation.store
    real = real_samples(store.reference, evaluation)

    def scores():
        if "layouts" in samples:  # real ones nearest-sampled at the same size
            real["layouts"] = reference_layouts(store, samples["layouts"].shape[2], evaluation.num)
        return score(samples, real, evaluation)

    return from_first(scores)


def score_real_layouts(generator, evaluation: Evaluation) -> dict:
    """Images drawn from the reference split's layouts against its images; alignment with those of the test split."""
    store = evaluation.store

    def samples_of(split, evaluation):
        def draw(numbers):
            labels = layouts_in_order(split, numbers.start, numbers.stop, evaluation.height)
            return {"images": render(generator, labels, numbers), "given": labels}

        return draw_samples(draw, min(evaluation.num, len(split)), evaluation)

    tested = held_out_split(store)
    if evaluation.segmenter is None or tested == store.reference:
        return against_reference(samples_of(store[store.reference], evaluation), evaluation)
    row = against_reference(samples_of(store[store.reference], replace(evaluation, segmenter=None)), evaluation)
    samples = samples_of(store[tested], replace(evaluation, network=None))
    alignment = from_first(lambda: score_predictions(samples, evaluation))
    return row | alignment | {"protocol": row.get("protocol", {}) | alignment.get("protocol", {})}


def score_floor(evaluation: Evaluation, layout_height: int | None = None) -> dict:
    """Real samples of the other split against the reference split's: no generator can be expected below.

    layout_height: of layouts to be compared as well.
    """
    store = evaluation.store
    other = next(name for name in store.splits if name != store.reference)
    samples = real_samples(other, evaluation)
    if layout_height and rank() == 0:
        samples["layouts"] = reference_layouts(store, layout_height, evaluation.num, split=other)
    return against_reference(samples, evaluation)


# --- What is written of a scoring: record, line, table ---

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


def writing_results(folder: Path):
    """Turns what the system says against writing into the folder into one sentence."""
    return explained(folder, "make room, or name another --results")


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
