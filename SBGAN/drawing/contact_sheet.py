"""One picture of what models draw, beside what they were to draw."""

import torch

from SPADE.engine.data import spread_pairs
from SPADE.engine.images import colour_layouts, enlarge, sheet


def contact_sheet(models, store, seed: int, num: int = 8):
    """uint8 [3,...]: for each model layouts above images from noise; then real layouts, the last model's images of
    them, and the real images. What a model has no generator for is left out."""
    colours = torch.from_numpy(store.label_space.colours)
    seeds = range(seed, seed + num)

    def shown(layouts):
        return enlarge(colour_layouts(layouts, colours), store.height, store.width)

    rows = []
    for model in models:
        if model.layout_generator is not None:
            layouts = model.sample_layouts(seeds)
            rows.append(shown(layouts))
            if model.spade_generator is not None:
                rows.append(model.render(layouts, seeds))
    images, labels = spread_pairs(store[store.reference], num)
    rows.append(shown(labels))
    if models and models[-1].spade_generator is not None:
        rows.append(models[-1].render(labels, range(seed, seed + len(labels))))
    return sheet([*rows, images])
