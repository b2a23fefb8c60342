"""Exponential moving average of a network's weights: what is evaluated, sampled from, and fine-tuned further.

Yazıcı et al., *The Unusual Effectiveness of Averaging in GAN Training*, ICLR 2019.
"""

import copy

import torch

from SPADE.engine import buffers

RAMP_UP = 0.05  # the half-life is at most this share of the images seen, so that the start is soon forgotten


def averaged_copy(network: torch.nn.Module) -> torch.nn.Module:
    """A copy to be averaged into: in evaluation mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(images: int, images_seen: int, half_life: float) -> float:
    """Weight of the old average after a step on `images`: 1/2 to the share of the half-life that they are."""
    half_life = min(half_life, RAMP_UP * images_seen)
    return 0.5 ** (images / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update(average: torch.nn.Module, network: torch.nn.Module, keep: float):
    """average = keep * average + (1 - keep) * network.

    Batch norm's running statistics are averaged as the weights are: a statistic is to first order linear in the
    weights, so the average network's is the average of the statistics, while the last network's would be off by the
    distance between the two. Estimates can't be averaged (spectral vectors are unit vectors, of any sign): the
    average's own follow its weights by one iteration for each update, as in training.
    """
    pairs = [*zip(average.parameters(), network.parameters(), strict=True)]
    pairs += [*zip(buffers.split(average)[0], buffers.split(network)[0], strict=True)]
    torch._foreach_lerp_([mine for mine, _ in pairs], [theirs for _, theirs in pairs], 1 - keep)
    for layer in buffers.iterative_layers(average):
        layer.iterate()
