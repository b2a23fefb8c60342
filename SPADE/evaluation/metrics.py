"""The metrics, each a function of two sets of samples, in one registry; what they share is one `Evaluation`.

A set of samples is a dictionary of rows: "images" uint8 [N,3,h,w], their "features" float [N,D], "layouts" uint8
[N,1,h,w], or some of them; "given" are the layouts that images were drawn from, "predicted" those that a segmenter
sees in them. To add a metric, write a function here or in SBGAN/evaluation and register it by `@metric`: it is then in
every table, record and report. Its column's place in the tables is in `record.COLUMNS`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch

from datasets.packed import Store
from SPADE.evaluation.features import Extractor, mean_distance, small_pixels
from SPADE.evaluation.fidelity import FEWEST_IMAGES, feature_scores
from SPADE.evaluation.swd import PATCH, sliced_wasserstein
from SPADE.segmenter import Segmenter

MOSTLY_BIAS_BELOW = 2048  # images; with fewer, FID's bias is of the size of the differences that one looks for
OTHER_NAMES = {"fid": "fd", "kid": "kd", "kid_std": "kd_std", "kid_subset_size": "kd_subset_size"}
SWD_PROTOCOL = (
    "sliced Wasserstein distance x 1e3 per pyramid level (pixels on the shorter side), 128 patches of 7x7x3 per image "
    "and level, 512 directions (Karras et al. 2018)"
)


@dataclass(frozen=True)
class Evaluation:
    """All that the scores of one evaluation share."""

    store: Store
    device: torch.device | str
    num: int  # samples of a score
    seed: int = 0  # sample i is that of seed + i
    height: int | None = None  # of the images; None where there are layouts alone
    network: Extractor | None = None  # for the scores of features
    no_network: str | None = "no feature network was given"  # why there is none, if so
    segmenter: Segmenter | None = None  # for the scores of pairs


@dataclass(frozen=True)
class Metric:
    compute: Callable  # (fake, real, evaluation) -> {score: value}, and {"protocol": {score: how it was made}}
    of: str  # the rows that it looks at: "layouts", "images" or "features"
    fewest: int  # samples on each side
    smallest: int  # pixels on the shorter side


METRICS: dict[str, Metric] = {}


def metric(name: str, of: str, fewest: int = 1, smallest: int = 1):
    """Registers a metric. Where there are fewer samples, or smaller ones, than it needs, it is left out."""

    def register(compute):
        METRICS[name] = Metric(compute, of, fewest, smallest)
        return compute

    return register


def score(fake: dict, real: dict, evaluation: Evaluation) -> dict:
    """Every metric of fake samples against real ones, as a JSON-able record; NAME_left_out says why one is not there.

    With fewer than 2048 images `warning` says what FID is worth, and the same goes out as a Python warning.
    """
    record, protocol = {}, {}
    if "images" in fake:
        record |= {"fake_images": len(fake["images"]), "real_images": len(real["images"])}
        record |= {"height": fake["images"].shape[2], "width": fake["images"].shape[3]}
    for name, entry in METRICS.items():
        if entry.of not in fake and not (entry.of == "features" and "images" in fake):
            continue  # not of this kind of samples
        reason = missing(entry, fake, real, evaluation)
        if reason:
            record[f"{name}_left_out"] = reason
            continue
        scores = entry.compute(fake, real, evaluation)
        protocol |= scores.pop("protocol", {})
        record |= scores
    return record | ({"protocol": protocol} if protocol else {})


def missing(entry: Metric, fake: dict, real: dict, evaluation: Evaluation) -> str | None:
    """The reason why a metric can't be computed, if there is one."""
    if entry.of not in fake:
        return evaluation.no_network or "no feature network was given"
    kind = "layouts" if entry.of == "layouts" else "images"
    fewest = min(len(fake[kind]), len(real[kind]))
    side = min(fake[kind].shape[-2:])
    if fewest < entry.fewest:
        return f"it needs at least {entry.fewest} {kind} on each side, found {fewest}"
    if side < entry.smallest:
        return f"it needs {kind} of at least {entry.smallest} pixels on each side, found {side}"
    return None


@metric("swd", of="images", smallest=PATCH)
def swd(fake, real, evaluation):
    """Sliced Wasserstein distance by level of the pyramid, and the mean."""
    return {"swd": sliced_wasserstein(fake["images"], real["images"]), "protocol": {"swd": SWD_PROTOCOL}}


@metric("fid", of="features", fewest=FEWEST_IMAGES)
def fid(fake, real, evaluation):
    """FID, KID, precision and recall; by another network than the standard Inception the first two are fd and kd."""
    extractor, scores = evaluation.network, feature_scores(fake["features"], real["features"])
    if extractor.standard:
        how = (
            f"standard: {extractor.described}, uint8 images resized by torch-fidelity {version('torch-fidelity')}; "
            "kid, precision and recall from the same features"
        )
    else:
        scores = {OTHER_NAMES.get(key, key): value for key, value in scores.items()}
        how = (
            f"Frechet distance of features of {extractor.described}: not FID, and to be compared with numbers of this "
            "network alone; kd (kernel distance, as in KID), precision and recall from the same features"
        )
    scores["protocol"] = {"fid" if extractor.standard else "fd": how}
    counts = len(fake["features"]), len(real["features"])
    if min(counts) < MOSTLY_BIAS_BELOW:
        scores["warning"] = (
            f"{'FID' if extractor.standard else 'the Frechet distance'} of {counts[0]} images against {counts[1]} is "
            "mostly bias: compare at equal counts only"
        )
        warnings.warn(scores["warning"], stacklevel=2)
    return scores


@metric("diversity", of="images", fewest=2)
def diversity(fake, real, evaluation):
    """Mean distance between two fakes beside that of two real images: of features, or else of small pixels."""
    if "features" in fake:
        points, space = (fake["features"], real["features"]), f"features of {evaluation.network.described}"
    else:
        points = small_pixels(fake["images"]), small_pixels(real["images"])
        space = "pixels averaged to 16 rows, root mean square"
    return {
        "diversity": mean_distance(points[0]),
        "diversity_of_real": mean_distance(points[1]),
        "protocol": {"diversity": f"mean distance between two images of a set; {space}"},
    }
