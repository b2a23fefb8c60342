"""Distances between sets of layouts: no weights, no generator, no config. Registered beside those of images."""

import torch

from SPADE.evaluation.distances import frechet_distance
from SPADE.evaluation.metrics import metric

CELLS = 4  # of the grid, in each direction


def class_proportions(labels, num_classes):
    """labels uint8 [N,1,H,W] in 0..num_classes-1 -> share of pixels of each class, float64 [N,C], rows sum to 1."""
    return grid_proportions(labels, num_classes, cells=1)


def grid_proportions(labels, num_classes, cells=CELLS):
    """The same in each cell of a cells x cells grid: float64 [N,C*cells*cells], each cell of an image sums to 1.

    Proportions of a whole image say nothing of where things are. Cells differ by one row or column where the size is
    no multiple of `cells`.
    """
    n, _, height, width = labels.shape
    if min(height, width) < cells:
        raise ValueError(f"layouts of {height}x{width} cannot be cut into {cells}x{cells} cells")
    if int(labels.max()) >= num_classes:
        raise ValueError(f"layouts have class {int(labels.max())}, but num_classes is {num_classes}")

    row = torch.arange(height, device=labels.device) * cells // height  # [H]
    column = torch.arange(width, device=labels.device) * cells // width  # [W]
    cell = row[:, None] * cells + column  # [H,W]
    pixels_of_cell = torch.bincount(cell.flatten())  # [cells^2]

    bins = num_classes * cells**2
    proportions = []
    for batch in labels.split(64):  # bin numbers are int64, eight times the layouts' memory
        image = torch.arange(len(batch), device=labels.device)[:, None, None]
        bin_of_pixel = image * bins + batch[:, 0].long() * cells**2 + cell  # [n,H,W]
        counts = torch.bincount(bin_of_pixel.flatten(), minlength=len(batch) * bins)
        proportions.append(counts.view(len(batch), num_classes, cells**2).double() / pixels_of_cell)
    return torch.cat(proportions).view(n, bins)


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
    """Classes above the highest that occurs would add columns of zeros, which add nothing to the distance."""
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
