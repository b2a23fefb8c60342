"""Walks between latents as an animated picture, layouts above images."""

from pathlib import Path

import torch
from PIL import Image

from SBGAN.drawing.files import replacing
from SBGAN.drawing.sample import layouts_of
from SBGAN.model import Model
from SPADE.engine.images import colour_layouts, enlarge
from SPADE.sampling import latents

AT_ONCE = 16  # frames


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


def walk_frames(model: Model, seeds, frames: int, style=None):
    """uint8 [3,2*H,W] each: the layout above its image. The style stays one: that given, [1,D], or the first seed's."""
    colours = torch.from_numpy(model.label_space.colours)
    height, width = model.data["height"], model.data["width"]
    points = latents(seeds, model.layout_generator.latent_dim, model.device)
    if style is None and model.spade_generator.style_dim:
        style = latents(seeds[:1], model.spade_generator.style_dim, model.device)
    for z in closed_walk(points, frames).split(AT_ONCE):
        layouts = layouts_of(model.layout_generator, z)
        images = model.render(layouts, None, style)
        yield from torch.cat([enlarge(colour_layouts(layouts, colours), height, width), images], 2)


def save_animation(frames, path: Path, milliseconds: int = 60):
    """WebP, which browsers and image viewers play, repeated for ever."""
    pictures = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    with replacing(path) as temporary:
        options = dict(save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=90)
        pictures[0].save(temporary, format="WEBP", **options)
