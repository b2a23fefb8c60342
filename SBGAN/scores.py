"""Scores of the joined model: of its layouts, and of its images beside those of real layouts."""

from SBGAN import layout_metrics
from SBGAN.sampling import generate_layouts
from SPADE.engine.data import reference_layouts
from SPADE.engine.evaluation import evaluating
from SPADE.metrics.scores import score_images
from SPADE.sampling import render
from SPADE.scores import real_images


def sample(layout_generator, spade_generator, num: int, seed: int, device):
    """num scenes from noise: arg-max layouts uint8 [num,1,h,w] and images uint8 [num,3,H,W]."""
    with evaluating(layout_generator, spade_generator):
        layouts = generate_layouts(layout_generator, num, seed, device)
        return layouts, render(spade_generator, layouts, device, seed=seed)


def score_layouts(layouts, store) -> dict:
    """FSD of generated layouts against the reference split's, sampled at the same size."""
    real = reference_layouts(store, layouts.shape[2], len(layouts))
    return {"fsd": layout_metrics.fsd(real, layouts), "fsd_grid": layout_metrics.fsd_grid(real, layouts)}


def score_layout_floor(store, height: int, num: int) -> dict:
    """The same between the two splits' real layouts."""
    other = next(name for name in store.splits if name != store.reference)
    return score_layouts(reference_layouts(store, height, num, split=other), store)


def score_generated(layout_generator, spade_generator, store, num: int, seed: int, device, inception) -> dict:
    """Images of generated layouts against the reference split's images, and the layouts' own distances."""
    layouts, images = sample(layout_generator, spade_generator, num, seed, device)
    images_scores = score_images(images, real_images(store[store.reference], num), inception, device)
    return {**score_layouts(layouts, store), **images_scores}
