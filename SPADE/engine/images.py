"""Images for people and for metrics: drawn so that no sample depends on another, made uint8, laid out in sheets."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets.files import replacing
from datasets.reader import in_order
from SPADE.engine.device import evaluating


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """float [N,3,H,W] in [-1,1] -> uint8, rounded to nearest."""
    return ((image.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(image: torch.Tensor) -> torch.Tensor:
    """uint8 [N,3,H,W] -> float in [-1,1], channels last in memory, as the networks' weights are."""
    return (image.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def colour_layouts(labels: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Labels uint8 [N,1,H,W] and colours uint8 [C,3] -> uint8 [N,3,H,W]."""
    return colours.to(labels.device)[labels[:, 0].long()].permute(0, 3, 1, 2)


def enlarge(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """uint8 [N,3,h,w] -> uint8 [N,3,height,width], pixels repeated: for looking at."""
    return torch.nn.functional.interpolate(images, (height, width), mode="nearest")


def visible(images):
    """Enlarges images uint8 [N,3,h,w] of fewer rows to 64, so that they can be looked at."""
    height, width = images.shape[2:]
    rows = max(64, height)
    return enlarge(images, rows, rows * width // height)


def sheet(rows: list[torch.Tensor], gap: int = 2) -> torch.Tensor:
    """Rows of images, each uint8 [n,3,H,W] of one size, to one picture uint8 [3,...] with white gaps."""
    rows = [row.cpu() for row in rows]
    height, width = rows[0].shape[-2:]
    columns = max(len(row) for row in rows)
    canvas = torch.full((3, len(rows) * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            y, x = gap + i * (height + gap), gap + j * (width + gap)
            canvas[:, y : y + height, x : x + width] = image
    return canvas


def square_sheet(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N,3,H,W] -> one picture, rows as long as columns are high, about."""
    columns = max(1, round((len(images) * images.shape[-2] / images.shape[-1]) ** 0.5))
    return sheet(list(images.split(columns)))


def save_png(picture: torch.Tensor, path: Path):
    """uint8 [3,H,W] -> PNG file, written whole or not at all."""
    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())).save(temporary, format="PNG")


def spread_pairs(split, num: int):
    """`num` pairs spread over the split, to look at: neighbours of a video look alike."""
    picks = [in_order(split, i, i + 1) for i in range(0, len(split), max(1, len(split) // num))][:num]
    return torch.cat([images for images, _ in picks]), torch.cat([labels for _, labels in picks])


# --- Samples: latents and images from a trained generator ---

# Rows of a batch. On the CPU one: what is shared between the layouts of a batch there (SPADE's modulations, computed
# once for all equal neighbourhoods) would make a sample's last bits depend on the others.
ROWS = {"cpu": 1, "cuda": 16}


def latents(seeds, dim: int, device) -> torch.Tensor:
    """One standard normal vector for each seed, [len(seeds),dim]: sample i never depends on its neighbours."""
    rows = [torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def slerp(a, b, share: float):
    """Spherical interpolation of two vectors, share 0 -> a, 1 -> b: latents keep the length that training knows."""
    angle = torch.acos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    if angle < 1e-4:
        return (1 - share) * a + share * b
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def closed_walk(points, frames: int):
    """points [K,D] -> [K*frames,D]: from each point to the next, and from the last back to the first."""
    following = torch.cat([points[1:], points[:1]])
    return torch.stack([slerp(a, b, i / frames) for a, b in zip(points, following, strict=True) for i in range(frames)])


def in_batches(draw, *inputs):
    """draw(*rows) of all rows of `inputs`, tensors [N,...] on one device (or None), computed in batches of one shape.

    Every batch has ROWS rows; the last is filled up with copies of its last row, whose results are dropped. Libraries
    choose their kernels, and so the order of their sums, by the shape. In batches of one shape a row's result, to the
    bit, depends neither on which rows are beside it nor on how many there are.

    On the CPU that holds as it stands. On a GPU it holds for kernels that compute each row alike wherever it stands in
    the batch and add in a fixed order: those that PyTorch takes under `--deterministic` with cuDNN's autotuning off;
    elsewhere atomic additions may move the last bit from call to call. Another GPU model or PyTorch may take other
    kernels in any case.
    """
    first = next(value for value in inputs if value is not None)
    size = ROWS.get(first.device.type, ROWS["cuda"])
    drawn = []
    for start in range(0, len(first), size):
        rows = [None if value is None else value[start : start + size] for value in inputs]
        count = min(size, len(first) - start)
        if count < size:
            rows = [None if r is None else torch.cat([r, r[-1:].expand(size - count, *r.shape[1:])]) for r in rows]
        drawn.append(draw(*rows)[:count])
    return torch.cat(drawn)


def render(generator, layouts, seeds=None, style=None):
    """Layouts uint8 [N,1,h,w] -> images uint8 [N,3,H,W] on the CPU. Each depends on its layout and style alone.

    A generator with styles takes style [1 or N,style_dim], or one standard normal style for each layout, drawn from its
    seed.
    """
    device = next(generator.parameters()).device
    if not generator.style_dim:
        style = None
    elif style is None:
        style = latents(seeds, generator.style_dim, device)
    else:
        style = style.expand(len(layouts), -1)
    with evaluating(generator):
        return in_batches(lambda *rows: to_uint8(generator(rows[0], style=rows[1])).cpu(), layouts.to(device), style)
