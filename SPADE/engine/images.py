"""Images for people and for metrics: the one place where [-1,1] becomes uint8, and sheets of pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets.disk import replacing


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
