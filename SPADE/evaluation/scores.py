"""Comparisons: samples of a model, real images (whose features are computed once and kept), and the floor between the
splits."""

import hashlib
import json
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from datasets.disk import replacing
from datasets.reader import in_order, layouts_in_order
from SPADE.engine.data import reference_layouts
from SPADE.engine.distributed import from_first, rank, shared_out
from SPADE.evaluation.features import Extractor, find_extractor
from SPADE.evaluation.metrics import Evaluation, score
from SPADE.evaluation.segmentation import score_segmentation, seen, test_split
from SPADE.evaluation.settings import ImageScores
from SPADE.sampling import render

FORMAT = 1  # counts up when features of the same images by the same network come to be other numbers


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
            known = kept(file, num)
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
        keep(samples["features"].numpy(), file)
    return samples


def kept(file: Path, num: int):
    """Features [num,D] that were kept, or None."""
    try:
        found = torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError):  # not there, or damaged
        return None
    return found if found.ndim == 2 and len(found) == num else None


def keep(features, file: Path):
    """A cache that cannot be written is said and no more."""
    try:
        with replacing(file, shared=True) as temporary:
            np.save(temporary, features)
    except OSError as error:
        print(f"reference features are not kept for the next time: {file.parent}: {error.strerror}")


def begin(config: ImageScores, store, device, height: int | None, seed: int = 0) -> Evaluation:
    """Finds the feature network for images of this height; None where there are layouts alone."""
    network, no_network = None, "there are no images"
    if height:
        network, no_network = find_extractor(config, height, height * store.aspect, device)
    return Evaluation(store, device, config.num_eval, seed, height, network, no_network)


def draw_samples(draw, num: int, evaluation: Evaluation) -> dict | None:
    """draw: range of numbers -> {"images": uint8 [n,3,h,w], ...}. These and their features, of range(num).

    The processes share the work, and process 0 gets the samples.
    """

    def drawn(numbers):
        samples = draw(numbers)
        if evaluation.network and "images" in samples:
            samples["features"] = evaluation.network.features(samples["images"], evaluation.device)
        if "images" in samples and {"layouts", "given"} & samples.keys():  # the baseline's images have none
            samples |= seen(samples["images"], samples.pop("given", samples.get("layouts")), evaluation)
        return samples

    return shared_out(drawn, num)


def draw_from_noise(draw, evaluation: Evaluation) -> dict | None:
    """draw: seeds -> {"images", ...}. The samples of the evaluation's seeds."""
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

    tested = test_split(store)
    if evaluation.segmenter is None or tested == store.reference:
        return against_reference(samples_of(store[store.reference], evaluation), evaluation)
    row = against_reference(samples_of(store[store.reference], replace(evaluation, segmenter=None)), evaluation)
    samples = samples_of(store[tested], replace(evaluation, network=None))
    alignment = from_first(lambda: score_segmentation(samples, {}, evaluation))
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
