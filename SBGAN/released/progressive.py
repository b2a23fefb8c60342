"""Weights of the released progressive networks for those here, of layouts and of RGB images.

The released discriminator numbers its blocks from the finest resolution, ours from the coarsest, and the released 1x1
heads belong to their blocks. Its networks have no minibatch statistics and the pixel norm without a root.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from SBGAN.networks import ProgressiveDiscriminator, ProgressiveGenerator, block_of
from SBGAN.released.spade import count, dimension, flatten, state_with, translate
from SPADE.pretrained import load_weights


def heads_of(released: dict) -> str:
    """ "mask" for layouts, "rgb" for images: how the released 1x1 layers are called."""
    return "rgb" if any(re.search(r"\.(to|from)_rgb\.", key) for key in released) else "mask"


def blocks_of(released: dict) -> int:
    """Number of blocks of a generator or a discriminator."""
    return max(count(released, rf"blocks\.\d+\.(to|from)_{heads_of(released)}\.weight"), 1)


def height_of(released: dict) -> int:
    """Height that the finest block works at."""
    return 4 << (blocks_of(released) - 1)


def finest_is_trained(generator: dict) -> bool:
    """Was the finest block ever trained? Biases begin at 0 and move with the first step."""
    finest = f"blocks.{blocks_of(generator) - 1}."
    return any(t.any() for key, t in generator.items() if key.startswith(finest) and key.endswith(".bias"))


def generator_up_to(released: dict, rows: int) -> dict:
    """The state dict without blocks that are finer than this height."""
    finer = tuple(f"blocks.{i}." for i in range(block_of(rows) + 1, blocks_of(released)))
    return {key: tensor for key, tensor in released.items() if not key.startswith(finer)}


def discriminator_up_to(released: dict, rows: int) -> dict:
    """The same of a discriminator, whose remaining blocks are numbered anew, from the finest."""
    finer = blocks_of(released) - 1 - block_of(rows)

    def renumbered(key):
        return re.sub(r"^blocks\.(\d+)\.", lambda found: f"blocks.{int(found[1]) - finer}.", key)

    kept = {renumbered(key): tensor for key, tensor in released.items()}
    return {key: tensor for key, tensor in kept.items() if not key.startswith("blocks.-")}


def smallest_fmap_base(channels: int, blocks: int) -> int:
    """The smallest base for which the finest block has this many channels on its pixel side.

    Larger bases give the same network where that block is at the cap.
    """
    return channels << blocks


def generator_names(network: ProgressiveGenerator, heads: str) -> dict[str, tuple[str, ...]]:
    """heads: "mask" or "rgb"."""
    return {key: (re.sub(r"^heads\.(\d+)\.", rf"blocks.\1.to_{heads}.", key),) for key in network.state_dict()}


def generator_arguments(released: dict) -> dict:
    what = "progressive generator"
    heads = heads_of(released)
    blocks = blocks_of(released)
    finest = f"blocks.{blocks - 1}.to_{heads}.weight"
    coarsest = dimension(released, "blocks.0.conv2.weight", 0, what)
    return {
        "out_channels": dimension(released, finest, 0, what),
        "aspect": max(dimension(released, "blocks.0.fc1.weight", 0, what) // (16 * coarsest), 1),
        "max_resolution": 4 << (blocks - 1),
        "latent_dim": dimension(released, "blocks.0.fc1.weight", 1, what),
        "fmap_base": smallest_fmap_base(dimension(released, finest, 1, what), blocks),
        "fmap_max": coarsest,
        "pixel_norm": "mean_square",
    }


def generator_state(released: dict) -> dict:
    with torch.device("meta"):
        network = ProgressiveGenerator(**generator_arguments(released))
    return translate(released, network, generator_names(network, heads_of(released)), "progressive generator")


def discriminator_names(network: ProgressiveDiscriminator, heads: str) -> dict[str, tuple[str, ...]]:
    """heads: "mask" or "rgb"."""

    def released(key):
        module, number, rest = re.fullmatch(r"(inputs|blocks)\.(\d+)\.(.+)", key).groups()
        from_finest = len(network.blocks) - 1 - int(number)
        return (f"blocks.{from_finest}." + (f"from_{heads}.{rest}" if module == "inputs" else rest),)

    return {key: released(key) for key in network.state_dict()}


def discriminator_arguments(released: dict, aspect: int) -> dict:
    """aspect: no shape tells it; it is the generator's."""
    what = "progressive discriminator"
    heads = heads_of(released)
    blocks = blocks_of(released)
    return {
        "in_channels": dimension(released, f"blocks.0.from_{heads}.weight", 1, what),
        "aspect": aspect,
        "max_resolution": 4 << (blocks - 1),
        "fmap_base": smallest_fmap_base(dimension(released, f"blocks.0.from_{heads}.weight", 0, what), blocks),
        "fmap_max": dimension(released, f"blocks.{blocks - 1}.conv2.weight", 0, what),
        "minibatch_stats": False,
    }


def discriminator_state(released: dict) -> dict:
    with torch.device("meta"):
        network = ProgressiveDiscriminator(**discriminator_arguments(released, aspect=1))
    return translate(released, network, discriminator_names(network, heads_of(released)), "progressive discriminator")


# --- How far a network had grown when its file was written ---

LAYOUT_KEY = "blocks.0.fc1.weight"
LAYOUT_CRITIC_KEYS = ("blocks.0.from_mask.weight", "blocks.0.from_rgb.weight")


@dataclass(frozen=True)
class Growth:
    """The state of its own training that a file of the progressive networks tells."""

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
        generator_up_to(generator, growth.rows),
        discriminator_up_to(discriminator, growth.rows) if discriminator else None,
        growth,
        heads_of(generator) == "rgb",
    )


def growth_of(content: dict, generator: dict, path) -> Growth:
    """content: the file's, where "dim" is the height and "phase" is "fade" or "stabilize"."""
    full = height_of(generator)
    dim, fading = content.get("dim"), content.get("phase", "stabilize") != "stabilize"
    if dim is None:
        if not finest_is_trained(generator):
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
