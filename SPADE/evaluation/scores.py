"""Comparisons: samples of a model, real images, and the floor between the splits."""

from datasets.reader import layouts_in_order
from SPADE.engine.data import reference_layouts
from SPADE.engine.distributed import from_first, rank, shared_out
from SPADE.evaluation.features import find_extractor
from SPADE.evaluation.metrics import Evaluation, score
from SPADE.evaluation.reference import real_samples
from SPADE.evaluation.settings import ImageScores
from SPADE.sampling import render


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
    """Images drawn from the reference split's layouts against its images."""
    split = evaluation.store[evaluation.store.reference]

    def draw(numbers):
        labels = layouts_in_order(split, numbers.start, numbers.stop, evaluation.height)
        return {"images": render(generator, labels, numbers)}

    return against_reference(draw_samples(draw, min(evaluation.num, len(split)), evaluation), evaluation)


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
