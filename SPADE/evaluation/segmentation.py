"""Does an image show the classes of its layout? A segmentation network's ids are compared with the layout's.

Of images of real layouts this is the alignment that SPADE published (Park et al. 2019, section 4), of generated pairs
GAN-test (Shmelkov et al., *How good is my GAN?*, ECCV 2018). All scores come from one confusion matrix.
"""

import torch

from datasets.reader import in_order
from SPADE.engine.distributed import from_first, shared_out
from SPADE.evaluation.metrics import Evaluation, metric
from SPADE.modulation import resize


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


@metric("segmentation", of="predicted")
def score_segmentation(fake, real, evaluation):
    """Rows "predicted", what the segmenter sees in images, against "given", the layouts that these were drawn from."""
    segmenter, names = evaluation.segmenter, evaluation.store.label_space.names
    given = resize(fake["given"], *fake["predicted"].shape[-2:])
    scores = segmentation_scores(confusion_matrix(given, fake["predicted"], len(names)), names, segmenter.scored)
    if "miou" not in scores:
        return {"segmentation_left_out": "the layouts show none of the classes that are scored"}
    return scores | {"protocol": {"miou": segmenter.protocol}}


def test_split(store) -> str:
    """The split whose pairs no network is trained on: the reference, unless that is the training split."""
    if store.reference != "train":
        return store.reference
    return next(name for name in store.splits if name != "train")


def seen(images, given, evaluation: Evaluation) -> dict:
    """Rows of images uint8 [n,3,H,W] for the metric above; none where there is no segmenter."""
    if evaluation.segmenter is None:
        return {}
    return {"given": given, "predicted": evaluation.segmenter.predict(images, evaluation.device)}


def score_real_pairs(evaluation: Evaluation) -> dict:
    """The segmenter on real test pairs: the ceiling of what it can say of generated ones."""
    split = evaluation.store[test_split(evaluation.store)]

    def look(numbers):
        return seen(*in_order(split, numbers.start, numbers.stop), evaluation)

    samples = shared_out(look, min(evaluation.num, len(split)))
    return from_first(lambda: score_segmentation(samples, {}, evaluation))
