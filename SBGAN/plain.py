"""The layout GAN in its plain form, for SBGAN.benchmark and SBGAN.export; SPADE's is SPADE.plain."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from SBGAN.networks import LEAK, ProgressiveGenerator, UpBlock, upsample


class PlainUpBlock(nn.Module):
    """Upsampling, then the convolution."""

    def __init__(self, block: UpBlock):
        super().__init__()
        self.conv1, self.conv2, self.pixel_norm = block.conv1, block.conv2, block.pixel_norm

    def forward(self, x):
        x = self.pixel_norm(F.leaky_relu(self.conv1(upsample(x)), LEAK))
        return self.pixel_norm(F.leaky_relu(self.conv2(x), LEAK))


def plain_layout_generator(generator: ProgressiveGenerator):
    generator = copy.deepcopy(generator).to(memory_format=torch.contiguous_format)
    generator.blocks = nn.ModuleList([PlainUpBlock(b) if isinstance(b, UpBlock) else b for b in generator.blocks])
    return generator


def plain_straight_through(log_probabilities, exponential):
    """Jang et al. 2017: the one-hot of the largest, with the gradient of the softmax."""
    soft = (log_probabilities - torch.log(exponential)).softmax(1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return hard - soft.detach() + soft
