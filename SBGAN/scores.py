"""Scores of the joined model: of its layouts, and of its images beside those of real layouts."""

from SBGAN import layout_metrics
from SBGAN.sampling import generate_layouts
from SPADE.engine.data import reference_layouts
from SPADE.engine.evaluation import evaluating
from SPADE.sampling import render
from SPADE.scores import against_real, other_split


def sample(layout_generator, spade_generator, num: int, seed: int, device):
    """num scenes from noise: arg-max layouts uint8 [num,1,h,w] and images uint8 [num,3,H,W]."""
    with evaluating(layout_generator, spade_generator):
        layouts = generate_layouts(layout_generator, num, seed, device)
        return layouts, render(spade_generator, layouts, device, seed=seed)


def score_layouts(layouts, store, num: int | None = None) -> dict:
    """FSD of generated layouts against `num` (default: as many) of the reference split's, sampled at the same size.

    classes: each class's share of all pixels, real and generated, and what it gains or loses; pixels_displaced: the
    share of pixels that would have to change class for the shares to be the real ones.
    """
    real = reference_layouts(store, layouts.shape[2], num or len(layouts))
    shares = layout_metrics.class_shares(real, layouts, store.label_space.names)
    return {
        "fsd": layout_metrics.fsd(real, layouts),
        "fsd_grid": layout_metrics.fsd_grid(real, layouts),
        "classes": shares,
        "pixels_displaced": sum(abs(share["gained"]) for share in shares.values()) / 2,
    }


def score_layout_floor(store, height: int, num: int) -> dict:
    """The same between the two splits' real layouts."""
    return score_layouts(reference_layouts(store, height, num, split=other_split(store)), store, num)


def score_generated(
    layout_generator, spade_generator, store, num: int, seed: int, device, extractor, left_out=None
) -> dict:
    """Images of generated layouts against the reference split's images, and the layouts' own distances."""
    layouts, images = sample(layout_generator, spade_generator, num, seed, device)
    return score_layouts(layouts, store) | against_real(images, store, device, extractor, left_out)
