"""Released files: what is in them, and how far a progressive network had grown when its file was written."""

from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from SBGAN.released import progressive
from SPADE.pretrained import load_weights

LAYOUT_KEY = "blocks.0.fc1.weight"
LAYOUT_CRITIC_KEYS = ("blocks.0.from_mask.weight", "blocks.0.from_rgb.weight")
SPADE_KEYS = {  # a tensor that each of SPADE's networks has, and no other
    "generator": "head_0.conv_0.weight_orig",
    "discriminator": "discriminator_0.model0.0.weight",
    "encoder": "layer1.0.weight_orig",
}


def flatten(content, prefix="") -> dict[str, torch.Tensor]:
    """Tensors in nested dictionaries, by the names on the way to them."""
    if isinstance(content, torch.Tensor):
        return {prefix[:-1]: content}
    if not isinstance(content, dict):
        return {}
    found = {}
    for key, value in content.items():
        found |= flatten(value, f"{prefix}{key}.")
    return found


def state_with(tensors: dict, keys, path, what: str) -> dict | None:
    """The one state dict among the tensors that has one of the keys, under its own names; None if there is none."""
    prefixes = sorted({name[: -len(key)] for name in tensors for key in keys if name.endswith(key)})
    prefixes = [prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")]
    if len(prefixes) > 1:
        raise UserError(f"{path} has several networks that could be the {what}, under {', '.join(prefixes)}; keep one")
    if not prefixes:
        return None
    return {name.removeprefix(prefixes[0]): t for name, t in tensors.items() if name.startswith(prefixes[0])}


def read_spade(path, kind: str) -> dict:
    """State dict of one of SPADE's networks, whatever stands before its names, such as DataParallel's "module."."""
    state = state_with(flatten(load_weights(path)), [SPADE_KEYS[kind]], path, kind)
    if state is None:
        raise UserError(
            f"{path} has no {SPADE_KEYS[kind]}: it is no released SPADE {kind}; name the file of that network"
        )
    return state


@dataclass(frozen=True)
class Growth:
    """What a file of the progressive networks says of its own training."""

    rows: int  # height up to which it has grown; blocks above were never trained
    of_rows: int  # height that its blocks are for
    fading: bool  # written in the first half of its last resolution


@dataclass(frozen=True)
class ReleasedLayoutGAN:
    """State dicts under the released names, which end at the height that the networks have grown to."""

    generator: dict
    discriminator: dict | None
    growth: Growth
    baseline: bool  # the RGB ProGAN


def read_layout(path: Path) -> ReleasedLayoutGAN:
    """ITERATION.pth, or its generator alone. Raises UserError."""
    content = load_weights(path)
    tensors = flatten(content)
    generator = state_with(tensors, [LAYOUT_KEY], path, "generator")
    if generator is None:
        raise UserError(f"{path} has no {LAYOUT_KEY}: it is no released layout GAN; name ITERATION.pth")
    discriminator = state_with(tensors, LAYOUT_CRITIC_KEYS, path, "discriminator")
    growth = growth_of(content, generator, path)
    return ReleasedLayoutGAN(
        progressive.generator_up_to(generator, growth.rows),
        progressive.discriminator_up_to(discriminator, growth.rows) if discriminator else None,
        growth,
        progressive.heads_of(generator) == "rgb",
    )


def growth_of(content: dict, generator: dict, path) -> Growth:
    """content: the file's, where "dim" is the height and "phase" is "fade" or "stabilize"."""
    full = progressive.rows_of(generator)
    dim, fading = content.get("dim"), content.get("phase", "stabilize") != "stabilize"
    if dim is None:
        if not progressive.finest_is_trained(generator):
            raise UserError(
                f"{path} does not say how far it has grown (dim), and its block of {full} rows was never trained; "
                "name ITERATION.pth as the released code wrote it"
            )
        return Growth(full, full, fading)
    heights = [4 << i for i in range(full.bit_length() - 2)]
    rows = next((height for height in heights if height == dim), None)
    if rows is None:
        raise UserError(
            f"{path} has grown to {dim} rows (dim), but its blocks are for {', '.join(map(str, heights))}; "
            "name ITERATION.pth as the released code wrote it"
        )
    return Growth(rows, full, fading)
