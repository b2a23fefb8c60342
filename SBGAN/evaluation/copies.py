"""Does the model repeat what it was trained on? The nearest training layout and image of each sample."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from datasets.reader import in_order, layouts_in_order
from SPADE.engine.images import colour_layouts, enlarge, sheet
from SPADE.evaluation.features import small_pixels
from SPADE.modulation import resize

ROWS = 32  # layouts and images are compared at this height
BATCH = 128


@dataclass(frozen=True)
class Nearest:
    """The training item nearest to each sample: its number, its distance, and whether it is mirrored."""

    index: torch.Tensor  # [N]
    distance: torch.Tensor  # [N]
    mirrored: torch.Tensor  # bool [N]


def nearest(samples, training, distances) -> Nearest:
    """samples [N,...]; training: batches of items [n,K,h,w]; distances: (samples, items) -> [N,n].

    Items are compared as they are and mirrored, as training shows both.
    """
    best, start = samples.new_full((len(samples),), torch.inf, dtype=torch.float32), 0
    index, mirrored = torch.zeros_like(best, dtype=torch.long), torch.zeros_like(best, dtype=torch.bool)
    for batch in training:
        for flip in (False, True):
            found, where = distances(samples, batch.flip(3) if flip else batch).min(1)
            closer = found < best
            best = torch.where(closer, found, best)
            index = torch.where(closer, where + start, index)
            mirrored = torch.where(closer, flip, mirrored)
        start += len(batch)
    return Nearest(index, best, mirrored)


def layout_distances(samples, items):
    """Share of pixels with another class; labels uint8 [N,1,h,w] and [n,1,h,w] -> float [N,n]."""
    items = items[:, 0].flatten(1)
    return torch.stack([(items != sample.flatten()).float().mean(1) for sample in samples])


def image_distances(samples, items):
    """Distance between images as vectors of their pixels at up to ROWS rows, centred and of length 1: 0 is one picture
    up to brightness and contrast, sqrt(2) no likeness. (By plain pixels, a grey blur is near to anything.)
    uint8 [N,3,H,W], [n,3,h,w] -> float [N,n]."""
    rows = min(ROWS, samples.shape[2], items.shape[2])
    return torch.cdist(standardised(small_pixels(samples, rows)), standardised(small_pixels(items, rows)))


def standardised(vectors):
    centred = vectors - vectors.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-3)


def training_layouts(split, height):
    for start in range(0, len(split), BATCH):
        yield layouts_in_order(split, start, min(start + BATCH, len(split)), height)


def training_images(split, height):
    for start in range(0, len(split), BATCH):
        yield in_order(split, start, min(start + BATCH, len(split)), height)[0]


def compared_rows(height: int) -> int:
    """ROWS, or the largest of height, height / 2, ... that is no larger: what the reader averages pixels to."""
    while height > ROWS and height % 2 == 0:
        height //= 2
    return height


def copy_check(layouts, images, store) -> tuple[dict, dict]:
    """Compares samples with all training pairs: (numbers for the record, {"layout" and "image": Nearest}).

    layouts uint8 [N,1,h,w], images uint8 [N,3,H,W]; either may be None. A sample that is much nearer than real images
    of the other split are to the training ones is a copy; those distances are given beside.
    """
    split, other = store["train"], store[next(name for name in store.splits if name != "train")]
    size = compared_rows(store.height)
    record, found = {}, {}
    count = len(images if layouts is None else layouts)
    held_images, held_layouts = in_order(other, 0, min(count, len(other)), size)
    if layouts is not None:
        height = min(size, layouts.shape[2])
        small = resize(layouts, height, height * store.aspect)
        found["layout"] = nearest(small, training_layouts(split, height), layout_distances)
        held = resize(held_layouts, height, height * store.aspect)
        held = nearest(held, training_layouts(split, height), layout_distances)
        record["layout"] = summary(found["layout"], held, "share of pixels of another class")
    if images is not None:
        found["image"] = nearest(images, training_images(split, size), image_distances)
        held = nearest(held_images, training_images(split, size), image_distances)
        record["image"] = summary(found["image"], held, f"of standardised pixels at {ROWS} rows, 1.41 is no likeness")
    return record, found


def summary(samples: Nearest, held: Nearest, unit: str) -> dict:
    return {
        "distance": f"to the nearest of all training items and their mirror images: {unit}",
        "nearest": samples.distance.min().item(),
        "median": samples.distance.median().item(),
        "median_of_real": held.distance.median().item(),
        "nearest_of_real": held.distance.min().item(),
        "closer_than_any_real": (samples.distance < held.distance.min()).sum().item(),
        "samples": len(samples.distance),
    }


def copies_picture(layouts, images, found: dict, store, num: int = 8):
    """The samples nearest to training items, one a column: layout, its nearest; image, its nearest; the distances.

    uint8 [3,...]
    """
    colours = torch.from_numpy(store.label_space.colours)

    def shown(labels):
        return enlarge(colour_layouts(labels, colours), store.height, store.width)

    order = found["image" if "image" in found else "layout"].distance.argsort()[:num]
    rows = []
    if "layout" in found:
        rows += [shown(layouts[order]), shown(training_items(store["train"], found["layout"], order)[1])]
    if "image" in found:
        rows += [enlarge(images[order], store.height, store.width)]
        rows += [training_items(store["train"], found["image"], order)[0]]
    texts = [[f"{kind} {nearest.distance[i]:.3f}" for i in order.tolist()] for kind, nearest in found.items()]
    picture = sheet(rows)  # [3,H,W]
    return torch.cat([picture, captions(texts, picture.shape[2])], 1)


def captions(lines: list[list[str]], width: int):
    """Lines of texts, each text at the left of its column: black on white, uint8 [3,12*lines,width]."""
    strip = Image.new("RGB", (width, 12 * len(lines)), "white")
    draw = ImageDraw.Draw(strip)
    for i, texts in enumerate(lines):
        for j, text in enumerate(texts):
            draw.text((2 + j * (width - 2) // len(texts), 12 * i), text, "black", ImageFont.load_default(10))
    return torch.from_numpy(np.array(strip)).permute(2, 0, 1)


def nearest_items(found: dict, split, seed: int) -> list[dict]:
    """A list of {"seed", "layout": {"nearest": name of the training item, "mirrored", "distance"}, "image"}."""
    items = {
        kind: [
            {"nearest": split.names[index], "mirrored": mirrored, "distance": round(distance, 6)}
            for index, mirrored, distance in zip(*(x.tolist() for x in (n.index, n.mirrored, n.distance)), strict=True)
        ]
        for kind, n in found.items()
    }
    kinds = zip(*items.values(), strict=True)
    return [{"seed": seed + i, **dict(zip(items, one, strict=True))} for i, one in enumerate(kinds)]


def training_items(split, found: Nearest, order):
    """Images and labels of the nearest training items of some samples, mirrored where they were found so."""
    pairs = [in_order(split, i, i + 1) for i in found.index[order].tolist()]
    mirrored = found.mirrored[order].tolist()
    return [
        torch.cat([pair[k].flip(3) if flip else pair[k] for pair, flip in zip(pairs, mirrored, strict=True)])
        for k in (0, 1)
    ]
