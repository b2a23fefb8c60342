"""The metrics, each a function of two sets of samples, in one registry; what they share is one `Evaluation`.

A set of samples is a dictionary of rows: "images" uint8 [N,3,h,w], their "features" float [N,D], "layouts" uint8
[N,1,h,w], or some of them; "given" are the layouts that images were drawn from, "predicted" those that a segmenter
sees in them. To add a metric, write a function here or in SBGAN/evaluation and register it by `@metric`: it is then in
every table, record and report. Its column's place in the tables is in `scores.COLUMNS`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch

from datasets.packed import Store
from datasets.reader import in_order
from SPADE.engine.distributed import from_first, shared_out
from SPADE.evaluation.distances import FEWEST_IMAGES, PATCH, feature_scores, sliced_wasserstein
from SPADE.evaluation.features import Extractor, mean_distance, small_pixels
from SPADE.modulation import resize
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
        protocol = (
            f"standard: {extractor.described}, uint8 images resized by torch-fidelity {version('torch-fidelity')}; "
            "kid, precision and recall from the same features"
        )
    else:
        scores = {OTHER_NAMES.get(key, key): value for key, value in scores.items()}
        protocol = (
            f"Frechet distance of features of {extractor.described}: not FID, and to be compared with numbers of this "
            "network alone; kd (kernel distance, as in KID), precision and recall from the same features"
        )
    scores["protocol"] = {"fid" if extractor.standard else "fd": protocol}
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


# --- Does an image show the classes of its layout? A segmentation network's ids are compared with the layout's ---
#
# Of images of real layouts this is the alignment that SPADE published (Park et al. 2019, section 4), of generated pairs
# GAN-test (Shmelkov et al., *How good is my GAN?*, ECCV 2018). All scores come from one confusion matrix.


def confusion_matrix(reference, predicted, num_classes: int) -> torch.Tensor:
    """Train ids uint8 [N,1,H,W] of both -> pixels int64 [C,C], a row for each class of the reference.

    Ids from num_classes on, in either, are those of no class: such a pixel is not counted.
    """
    counts = torch.zeros(num_classes**2, dtype=torch.int64, device=reference.device)
    for rows, columns in zip(reference.split(64), predicted.split(64), strict=True):  # int64 takes eight times as much
        known = (rows < num_classes) & (columns < num_classes)
        pairs = rows[known].long() * num_classes + columns[known].long()
        counts += torch.bincount(pairs, minlength=num_classes**2)
    return counts.view(num_classes, num_classes)


def segmentation_scores(confusion, names, scored) -> dict:
    """Scores of int64 [C,C]: {"miou", "accuracy", "fwiou", "iou": {class: number, None where it does not occur}}.

    scored: train ids that count. Pixels whose reference is another class are left out; one that is mistaken for another
    is missed. miou is the mean over classes that occur in the reference, fwiou weighs them by their pixels, accuracy is
    that of pixels. Where no scored class occurs there is none of them.
    """
    counted = torch.zeros(len(confusion), 1, dtype=torch.bool, device=confusion.device)
    counted[list(scored)] = True
    confusion = torch.where(counted, confusion, 0).double()
    pixels, right = confusion.sum(1), confusion.diag()  # [C] of each class of the reference
    iou = right / (pixels + confusion.sum(0) - right)  # [C], 0 / 0 where a class is nowhere
    occurs = pixels > 0
    found = {
        names[i]: value if there else None
        for i, (value, there) in enumerate(zip(iou.tolist(), occurs.tolist(), strict=True))
        if i in scored
    }
    if not occurs.any():
        return {"iou": found}
    return {
        "miou": iou[occurs].mean().item(),
        "accuracy": (right.sum() / pixels.sum()).item(),
        "fwiou": (iou[occurs] * pixels[occurs]).sum().item() / pixels.sum().item(),
        "iou": found,
    }


def score_predictions(samples: dict, evaluation: Evaluation) -> dict:
    """Rows "predicted", what the segmenter sees in images, against "given", the layouts that these were drawn from."""
    segmenter, names = evaluation.segmenter, evaluation.store.label_space.names
    given, predicted = resize(samples["given"], *samples["predicted"].shape[-2:]), samples["predicted"]
    scores = segmentation_scores(confusion_matrix(given, predicted, len(names)), names, segmenter.scored)
    if "miou" not in scores:
        return {"segmentation_left_out": "the layouts show none of the classes that are scored"}
    return scores | {"protocol": {"miou": segmenter.protocol}}


@metric("segmentation", of="predicted")
def segmentation(fake, real, evaluation):
    """What the segmenter sees in the fakes against their own layouts: real ones have no part in it."""
    return score_predictions(fake, evaluation)


def held_out_split(store) -> str:
    """The split whose pairs no network is trained on: the reference, unless that is the training split."""
    if store.reference != "train":
        return store.reference
    return next(name for name in store.splits if name != "train")


def segmented(images, given, evaluation: Evaluation) -> dict:
    """The rows that the metric above looks at, for images uint8 [n,3,H,W]; none without a segmenter."""
    if evaluation.segmenter is None:
        return {}
    return {"given": given, "predicted": evaluation.segmenter.predict(images, evaluation.device)}


def score_real_pairs(evaluation: Evaluation) -> dict:
    """The segmenter on real test pairs: the ceiling of what it can say of generated ones."""
    split = evaluation.store[held_out_split(evaluation.store)]

    def look(numbers):
        return segmented(*in_order(split, numbers.start, numbers.stop), evaluation)

    samples = shared_out(look, min(evaluation.num, len(split)))
    return from_first(lambda: score_predictions(samples, evaluation))
