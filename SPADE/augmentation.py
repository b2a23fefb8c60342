"""Differentiable augmentation (Zhao et al., NeurIPS 2020): a critic of few images learns fewer of them by heart.

T is applied to all that a critic sees, real and generated, and the generator's gradient flows through it.
"""

import torch

from datasets.errors import UserError

DRAWS = {"color": 3, "translation": 2, "cutout": 2}  # uniform numbers that each kind takes of one sample
KINDS = tuple(DRAWS)
MOST_SHIFTED, CUT = 1 / 8, 1 / 2  # shares of the side


def parse_kinds(text: str, flag: str = "augment") -> tuple[str, ...]:
    """ "translation,cutout" -> ("translation", "cutout"); no text, no kinds. Raises UserError."""
    kinds = tuple(kind for kind in text.split(",") if kind)
    if not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):
        raise UserError(f"--{flag} is {text!r}, wanted some of {','.join(KINDS)}, each once; mend the flag")
    return kinds


def draw(num: int, kinds, device) -> dict[str, torch.Tensor]:
    """Draws the numbers that T is made of, a row for each sample: {kind: float [num,2 or 3] in [0,1)}.

    The numbers of a kind do not depend on which other kinds are asked for. No kinds, no draws.
    """
    if not kinds:
        return {}
    draws = torch.rand(num, sum(DRAWS.values()), device=device).split(list(DRAWS.values()), 1)
    return {kind: drawn for kind, drawn in zip(DRAWS, draws, strict=True) if kind in kinds}


def augmented(critic, draws, image_channels: int):
    """The critic behind T, or as it is without draws. draws: of `draw`; image_channels: see `augment`."""
    if not draws:
        return critic
    return lambda x, *arguments, **more: critic(augment(x, draws, image_channels), *arguments, **more)


def augment(x, draws, image_channels: int):
    """T of x [k*n,K,H,W], k batches of n, with the same draws for sample i of each; returns the same shape.

    draws: {kind: [n,...]}, see `draw`. image_channels: so many channels at the end are an image's in [-1,1], and have
    colours; those before them, one-hot labels, are moved and cut as the image is. What comes from outside of it, or is
    cut out, is 0.
    """
    draws = {kind: drawn.repeat(len(x) // len(drawn), 1) for kind, drawn in draws.items()}
    if "color" in draws and image_channels:
        labels, image = x.split([x.shape[1] - image_channels, image_channels], 1)
        x = torch.cat([labels, color(image, draws["color"])], 1)
    if "translation" in draws:
        x = translation(x, draws["translation"])
    if "cutout" in draws:
        x = cutout(x, draws["cutout"])
    return x


def color(x, draws):
    """Brightness + (u - 1/2), then saturation times 2u, then contrast times u + 1/2. x [N,3,H,W], draws [N,3]."""
    brightness, saturation, contrast = draws.view(*draws.shape, 1, 1, 1).unbind(1)  # each [N,1,1,1]
    x = x + (brightness - 0.5)
    x = torch.lerp(x.mean(1, keepdim=True), x, 2 * saturation)
    return torch.lerp(x.mean((1, 2, 3), keepdim=True), x, contrast + 0.5)


def translation(x, draws):
    """Moves by up to an eighth of each side, whole pixels. x [N,K,H,W], draws [N,2], of rows and columns."""
    for axis, u in zip((2, 3), draws.unbind(1), strict=True):
        side = x.shape[axis]
        most = round(side * MOST_SHIFTED)
        shift = (u * (2 * most + 1)).long() - most  # [N], in -most .. most
        source = torch.arange(side, device=x.device) - shift[:, None]  # [N,side]
        shape = [len(x), 1, side, 1] if axis == 2 else [len(x), 1, 1, side]
        inside = ((source >= 0) & (source < side)).view(shape).to(x.dtype)
        x = x.take_along_dim(source.clamp(0, side - 1).view(shape), axis) * inside
    return x


def cutout(x, draws):
    """Cuts out a rectangle of half of each side, whose middle is anywhere. x [N,K,H,W], draws [N,2]."""
    cut = []
    for side, u in zip(x.shape[2:], draws.unbind(1), strict=True):
        size = round(side * CUT)
        first = (u * (side + 1)).long()[:, None] - size // 2  # [N,1], from -size/2 on
        places = torch.arange(side, device=x.device)
        cut.append((places >= first) & (places < first + size))  # [N,side]
    rows, columns = cut
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])
