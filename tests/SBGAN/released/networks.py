"""The released progressive networks, small, as functions of state dicts: what an imported file is held against.

Written after their description: names and order of layers, pixel norm without a root, blocks of the critic numbered
from the finest resolution of all.
"""

import math

import torch
import torch.nn.functional as F

BASE, WIDEST, LATENT = 256, 8, 8  # block i of the generator has min(8, 2^(8-i)) and min(8, 2^(7-i)) channels


def widths(block: int) -> tuple[int, int]:
    return min(WIDEST, BASE >> block), min(WIDEST, BASE >> (block + 1))


def random_state(shapes: dict) -> dict:
    return {key: torch.randn(shape) * (0.05 if key.endswith("bias") else 1) for key, shape in shapes.items()}


def generator_state(classes: int, rows: int, aspect: int) -> dict:
    shapes = {}
    for i in range(rows.bit_length() - 2):
        before, after = widths(i)
        if i == 0:
            shapes |= {
                "blocks.0.fc1.weight": (after * 16 * aspect, LATENT),
                "blocks.0.fc1.bias": (after * 16 * aspect,),
            }
        else:
            shapes |= {f"blocks.{i}.conv1.weight": (after, before, 3, 3), f"blocks.{i}.conv1.bias": (after,)}
        shapes |= {f"blocks.{i}.conv2.weight": (after, after, 3, 3), f"blocks.{i}.conv2.bias": (after,)}
        shapes |= {f"blocks.{i}.to_mask.weight": (classes, after, 1, 1), f"blocks.{i}.to_mask.bias": (classes,)}
    return random_state(shapes)


def discriminator_state(classes: int, rows: int) -> dict:
    shapes, blocks = {}, rows.bit_length() - 2
    for i in range(blocks):
        after, before = widths(blocks - 1 - i)
        last = i == blocks - 1
        shapes |= {f"blocks.{i}.from_mask.weight": (before, classes, 1, 1), f"blocks.{i}.from_mask.bias": (before,)}
        shapes |= {f"blocks.{i}.conv1.weight": (before, before, 3, 3), f"blocks.{i}.conv1.bias": (before,)}
        kernel = 4 if last else 3
        shapes |= {f"blocks.{i}.conv2.weight": (after, before, kernel, kernel), f"blocks.{i}.conv2.bias": (after,)}
        if last:
            shapes |= {f"blocks.{i}.fc3.weight": (1, after), f"blocks.{i}.fc3.bias": (1,)}
    return random_state(shapes)


def released_file(classes: int, max_rows: int, rows: int, aspect: int, phase: str) -> dict:
    """All that is in an ITERATION.pth."""
    generator, discriminator = generator_state(classes, max_rows, aspect), discriminator_state(classes, max_rows)
    moments = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.001}]}
    return {"iter": 7, "phase": phase, "n_semantics": classes, "G_state_dict": generator, "D_state_dict": discriminator,
            "opt_g_state_dict": moments, "opt_d_state_dict": moments, "dim": rows}  # fmt: skip


def conv(state, layer: str, x, gain=math.sqrt(2), **how):
    weight = state[f"{layer}.weight"]
    return F.conv2d(x, weight * (gain / math.sqrt(weight[0].numel())), state[f"{layer}.bias"], **how)


def linear(state, layer: str, x, gain=math.sqrt(2)):
    weight = state[f"{layer}.weight"]
    return F.linear(x, weight * (gain / math.sqrt(weight.shape[1])), state[f"{layer}.bias"])


def pixel_norm(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8)


def generate(state: dict, z, rows: int, aspect: int):
    """-> class probabilities [N,C,rows,aspect*rows]"""
    x = linear(state, "blocks.0.fc1", pixel_norm(z), math.sqrt(2) / 4).view(len(z), -1, 4, 4 * aspect)
    for i in range(rows.bit_length() - 2):
        if i:
            x = conv(state, f"blocks.{i}.conv1", x.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1)
        x = pixel_norm(F.leaky_relu(x, 0.2))
        x = pixel_norm(F.leaky_relu(conv(state, f"blocks.{i}.conv2", x, padding=1), 0.2))
    return conv(state, f"blocks.{i}.to_mask", x, 1.0).softmax(1)


def judge(state: dict, layouts, max_rows: int, aspect: int):
    """layouts [N,C,h,w] -> scores [N,1]"""
    blocks = max_rows.bit_length() - 2
    first = blocks - (layouts.shape[2].bit_length() - 2)
    x = F.leaky_relu(conv(state, f"blocks.{first}.from_mask", layouts, 1.0), 0.2)
    for i in range(first, blocks):
        last = i == blocks - 1
        x = F.leaky_relu(conv(state, f"blocks.{i}.conv1", x, stride=(1, aspect if last else 1), padding=1), 0.2)
        x = F.leaky_relu(conv(state, f"blocks.{i}.conv2", x, padding=0 if last else 1), 0.2)
        x = x if last else F.avg_pool2d(x, 2)
    return linear(state, f"blocks.{blocks - 1}.fc3", x.flatten(1))
