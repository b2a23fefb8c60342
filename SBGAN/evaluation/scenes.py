"""Scores of what is drawn from noise: layouts, scenes, the baseline's images. Metrics of layouts, the published FID."""

import statistics
from dataclasses import replace

import torch
import torch.nn.functional as F

from datasets.errors import UserError
from SBGAN.discretize import CELLS, class_proportions, grid_proportions
from SBGAN.model import draw_layouts
from SPADE.engine.device import evaluating
from SPADE.engine.distributed import from_first, shared_out
from SPADE.engine.images import from_uint8, in_batches, latents, render
from SPADE.evaluation.distances import frechet_distance
from SPADE.evaluation.features import full_precision
from SPADE.evaluation.metrics import Evaluation, metric
from SPADE.evaluation.scores import COLUMNS, against_reference, draw_from_noise, real_images
from SPADE.modulation import resize
from SPADE.pretrained import find_weights, load_weights, torchvision


def score_layouts(generator, evaluation: Evaluation, resolution=None, alpha: float = 1.0) -> dict:
    """Layouts from noise against the reference split's."""

    def draw(seeds):
        return {"layouts": draw_layouts(generator, seeds, resolution, alpha)}

    return against_reference(draw_from_noise(draw, evaluation), evaluation)


def score_scenes(layout_generator, spade_generator, evaluation: Evaluation) -> dict:
    """Layouts from noise and their images against the reference split's."""

    def draw(seeds):
        layouts = draw_layouts(layout_generator, seeds)
        return {"layouts": layouts, "images": render(spade_generator, layouts, seeds)}

    return against_reference(draw_from_noise(draw, evaluation), evaluation)


def score_sets(score, sets: int, evaluation: Evaluation) -> tuple[dict, dict | None]:
    """Scores so many sets of samples, each from the seeds that follow the set before: (mean row, first set's samples).

    score: evaluation -> row, samples.
    """
    seeds = [evaluation.seed + k * evaluation.num for k in range(sets)]
    row, samples = score(replace(evaluation, seed=seeds[0]))
    rows = [row, *(score(replace(evaluation, seed=seed))[0] for seed in seeds[1:])]
    return (mean_row(rows) if sets > 1 else row), samples


def mean_row(rows: list[dict]) -> dict:
    """Scores of several sets of samples as one row: means, and under "repeats" every value and the deviation."""
    row = dict(rows[0])
    repeats = {}
    for name in COLUMNS:
        if name in row and name != "diversity_of_real":
            values = [r[name]["mean"] if name == "swd" else r[name] for r in rows]
            repeats[name] = {"mean": statistics.mean(values), "std": statistics.stdev(values), "values": values}
            row[name] = statistics.mean(values)
    if "swd" in row:
        row["swd"] = {level: statistics.mean(r["swd"][level] for r in rows) for level in rows[0]["swd"]}
    return row | {"repeats": repeats}


# --- `fid_released`: the computation behind the published table of SB-GAN, oddities included; not a standard FID ---
#
# torchvision's ImageNet Inception sees images in [-3,1] (they are in [-1,1] and get mapped by 2x - 1 as if they were in
# [0,1]), the layouts are soft maps, and the reference images are flipped at random. Compare it with that table alone.

PROTOCOL = (
    "the released code's: torchvision's Inception on images in [-3,1], soft layouts, references flipped at random; "
    "compare with the published table alone"
)


def imagenet_inception(path, device):
    """The released code's features: images float [n,3,H,W] in [-1,1] -> float [n,2048]. path: None for the cache."""
    url = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.url
    path = find_weights(url, path, without="leave --fid_released out")
    network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=False)
    try:
        network.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise UserError(f"{path} holds no weights of torchvision's Inception ({str(error).splitlines()[0]})") from error
    network.fc, network.AuxLogits = torch.nn.Identity(), None
    network.eval().requires_grad_(False).to(device)

    def features(images):
        resized = F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)
        return network(2 * resized - 1)  # [n,2048]

    return features


def soft_scenes(model):
    """The function seeds -> images float [N,3,h,w] in [-1,1], of soft layouts or, for the RGB baseline, of its own."""
    generator, spade = model.image_generator or model.layout_generator, model.spade_generator

    def images(z, style):
        if spade is None:
            return generator(z)
        return spade(resize(generator(z).exp(), model.data["height"], model.data["width"]), style=style)

    def draw(seeds):
        z = latents(seeds, generator.latent_dim, model.device)
        style = latents(seeds, spade.style_dim, model.device) if spade and spade.style_dim else None
        with evaluating(*filter(None, (generator, spade))):
            return in_batches(images, z, style)

    return draw


@torch.no_grad()
def fid_released(draw, inception, evaluation: Evaluation) -> float:
    """The published table's Frechet distance. draw: of `soft_scenes`; inception: of `imagenet_inception`."""
    split = evaluation.store[evaluation.store.reference]
    flips = torch.Generator().manual_seed(evaluation.seed)
    flipped = torch.rand(min(evaluation.num, len(split)), generator=flips) < 0.5

    def of_fakes(numbers):
        return {"features": inception(draw([evaluation.seed + i for i in numbers])).cpu()}

    def of_reals(numbers):
        images = real_images(split, numbers, evaluation.height)
        images = torch.where(flipped[numbers.start : numbers.stop, None, None, None], images.flip(3), images)
        return {"features": inception(from_uint8(images.to(evaluation.device))).cpu()}

    with full_precision():
        fake, real = shared_out(of_fakes, evaluation.num), shared_out(of_reals, len(flipped))
    return from_first(lambda: frechet_distance(fake["features"], real["features"]))


def add_fid_released(row: dict, model, inception, evaluation: Evaluation):
    """Adds `fid_released` to the row of scores, or the reason why it is left out."""
    real = len(evaluation.store[evaluation.store.reference])
    if real < 2:
        row["fid_released_left_out"] = f"it needs at least 2 images on each side, found {real}"
        return
    row["fid_released"] = fid_released(soft_scenes(model), inception, evaluation)
    row["protocol"]["fid_released"] = PROTOCOL


# --- Distances between sets of layouts: no weights, no generator, no config. Registered beside those of images ---


def fsd(real, generated):
    """Frechet segmentation distance of two sets of uint8 layouts [N,1,H,W] (Bau et al., ICCV 2019).

    The Frechet distance between their vectors of class proportions. Its bias falls with the number of layouts, so
    numbers compare only at equal counts. Sizes of the two sets may differ.
    """
    num_classes = _classes_that_occur(real, generated)
    return frechet_distance(class_proportions(real, num_classes), class_proportions(generated, num_classes))


def fsd_grid(real, generated, cells=CELLS):
    """The same distance between proportions in a cells x cells grid: it sees where classes are. Far more biased."""
    num_classes = _classes_that_occur(real, generated)
    return frechet_distance(grid_proportions(real, num_classes, cells), grid_proportions(generated, num_classes, cells))


def class_shares(real, generated, names) -> dict:
    """Share of all pixels of each class, {name: {"real", "generated", "gained"}}; gained is the difference."""
    shares = [class_proportions(layouts, len(names)).mean(0).tolist() for layouts in (real, generated)]
    return {
        name: {"real": of_real, "generated": of_generated, "gained": of_generated - of_real}
        for name, of_real, of_generated in zip(names, *shares, strict=True)
    }


def _classes_that_occur(real, generated):
    """How many classes to count: those above the highest that occurs would add zeros alone, and no distance."""
    return 1 + max(int(real.max()), int(generated.max()))


@metric("fsd", of="layouts", fewest=2)
def score_fsd(fake, real, evaluation):
    return {"fsd": fsd(real["layouts"], fake["layouts"])}


@metric("fsd_grid", of="layouts", fewest=2, smallest=CELLS)
def score_fsd_grid(fake, real, evaluation):
    return {"fsd_grid": fsd_grid(real["layouts"], fake["layouts"])}


@metric("classes", of="layouts")
def score_classes(fake, real, evaluation):
    """Each class's share of all pixels, and the share of pixels that would have to change class for equal ones."""
    shares = class_shares(real["layouts"], fake["layouts"], evaluation.store.label_space.names)
    return {"classes": shares, "pixels_displaced": sum(abs(share["gained"]) for share in shares.values()) / 2}
