"""Scores of the joined model: of its layouts, and of its images beside those of real layouts."""

from SBGAN.drawing.sample import generate_layouts
from SBGAN.evaluation import layout_metrics
from SPADE.engine.data import reference_layouts
from SPADE.engine.distributed import from_first, shared_out
from SPADE.engine.evaluation import evaluating
from SPADE.evaluation.images import against_real, draw_rows, other_split
from SPADE.sampling import render


def sample(layout_generator, spade_generator, seeds, device):
    """One scene for each seed: arg-max layouts uint8 [N,1,h,w] and images uint8 [N,3,H,W]."""
    with evaluating(layout_generator, spade_generator):
        layouts = generate_layouts(layout_generator, seeds, device)
        return layouts, render(spade_generator, layouts, seeds, device)


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


def layout_rows(generator, num: int, seed: int, device, resolution=None, alpha: float = 1.0) -> dict | None:
    """{"layouts": uint8 [num,1,h,w]} from noise, as of `shared_out`."""

    def draw(numbers):
        return {"layouts": generate_layouts(generator, [seed + i for i in numbers], device, resolution, alpha)}

    return shared_out(draw, num)


def scene_rows(layout_generator, spade_generator, num: int, seed: int, device, extractor) -> dict | None:
    """{"layouts", "images", "features"} from noise, as of `draw_rows`."""

    def draw(numbers):
        layouts, images = sample(layout_generator, spade_generator, [seed + i for i in numbers], device)
        return {"layouts": layouts, "images": images}

    return draw_rows(draw, num, device, extractor)


def score_scenes(rows: dict | None, num: int, store, device, extractor, left_out=None) -> dict:
    """Images of generated layouts against the reference split's images, and the layouts' own distances."""
    row = from_first(lambda: score_layouts(rows["layouts"], store))
    return row | against_real(rows, num, store, device, extractor, left_out)


def score_generated(layout_generator, spade_generator, store, num: int, seed: int, device, extractor, left_out=None):
    """The scores of scenes from noise."""
    rows = scene_rows(layout_generator, spade_generator, num, seed, device, extractor)
    return score_scenes(rows, num, store, device, extractor, left_out)
