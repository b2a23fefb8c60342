"""Differentiable augmentation (Zhao et al., NeurIPS 2020): a critic of few images learns fewer of them by heart.

T is applied to all that a critic sees, real and generated, and the generator's gradient flows through it.
"""

import torch

from datasets.errors import UserError

DRAWS = {"color": 3, "translation": 2, "cutout": 2}  # uniform numbers that each kind takes of one sample
KINDS = tuple(DRAWS)
MOST_SHIFTED, CUT = 1 / 8, 1 / 2  # shares of the side


def parse_kinds(text: str) -> tuple[str, ...]:
    """ "translation,cutout" -> ("translation", "cutout"); no text, no kinds. Raises UserError."""
    kinds = tuple(kind for kind in text.split(",") if kind)
    if not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):
        raise UserError(f"--augment is {text!r}, wanted some of {','.join(KINDS)}, each once; mend the flag")
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
    most = [round(side * MOST_SHIFTED) for side in x.shape[2:]]
    down, right = ((u * (2 * m + 1)).long() - m for m, u in zip(most, draws.unbind(1), strict=True))  # [N], -m .. m
    return Translation.apply(x, down, right)


class Translation(torch.autograd.Function):
    """Moves image i of x [N,K,H,W] down[i] and right[i] pixels, and 0 after it; the gradient moves back likewise.

    In one pass over pixels whose channels lie side by side in memory, as those of images do.
    """

    @staticmethod
    def forward(ctx, x, down, right):
        ctx.save_for_backward(down, right)
        n, channels, height, width = x.shape
        row = torch.arange(height, device=x.device) - down[:, None]  # [N,H], the row that each one comes from
        column = torch.arange(width, device=x.device) - right[:, None]  # [N,W]
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]  # [N,H,W]
        row = row.clamp(0, height - 1) + height * torch.arange(n, device=x.device)[:, None]  # of all images' rows
        source = row[:, :, None] * width + column.clamp(0, width - 1)[:, None]  # [N,H,W], of all images' pixels
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, source.flatten())  # [N*H*W,K]
        return (pixels.view(n, height, width, channels) * inside[..., None]).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient):
        down, right = ctx.saved_tensors
        return Translation.apply(gradient, -down, -right), None, None


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
