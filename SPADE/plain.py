"""The SPADE generator in its plain form, which tests and SBGAN.benchmark hold the fast one against, and exports have.

Dense modulations with one convolution each for gamma and beta, semantics resized for every normalisation, operations
one by one, NCHW. Made of a network of the product; its weights are copies.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from datasets.labels import one_hot
from SPADE.modulation import SPADENorm
from SPADE.networks import LEAK, ResidualBlock, SPADEGenerator


def upsample(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


class PlainNorm(nn.Module):
    """Park et al. 2019, eq. 1, as it is written there."""

    def __init__(self, norm: SPADENorm):
        super().__init__()
        hidden, channels = norm.gamma_beta.in_channels, norm.gamma_beta.out_channels // 2
        self.shared = norm.shared
        like = dict(device=norm.gamma_beta.weight.device, dtype=norm.gamma_beta.weight.dtype)
        self.norm = nn.BatchNorm2d(channels, affine=False, **like)
        self.norm.load_state_dict(norm.norm.state_dict(), strict=False)
        self.gamma, self.beta = (nn.Conv2d(hidden, channels, 3, padding=1, **like) for _ in range(2))
        with torch.no_grad():
            for i, conv in enumerate((self.gamma, self.beta)):
                conv.weight.copy_(norm.gamma_beta.weight.chunk(2)[i])
                conv.bias.copy_(norm.gamma_beta.bias.chunk(2)[i])

    def forward(self, x, semantics):
        semantics = F.interpolate(semantics, x.shape[-2:], mode="nearest")
        hidden = F.relu(self.shared(semantics))
        return self.norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)


class PlainResidualBlock(nn.Module):
    def __init__(self, block: ResidualBlock):
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, PlainNorm(layer) if isinstance(layer, SPADENorm) else layer)
        self.learned_shortcut = block.learned_shortcut

    def forward(self, x, semantics):
        shortcut = self.conv_s(self.norm_s(x, semantics)) if self.learned_shortcut else x
        dx = self.conv_0(F.leaky_relu(self.norm_0(x, semantics), LEAK))
        dx = self.conv_1(F.leaky_relu(self.norm_1(dx, semantics), LEAK))
        return shortcut + dx


class PlainSPADEGenerator(nn.Module):
    """Takes and gives what SPADEGenerator does."""

    def __init__(self, generator: SPADEGenerator):
        super().__init__()
        generator = copy.deepcopy(generator)
        self.num_classes, self.upsamplings = generator.num_classes, generator.upsamplings
        self.style_dim, self.start_size = generator.style_dim, generator.start_size
        self.stem, self.to_rgb = generator.stem, generator.to_rgb
        self.head, self.mid_0, self.mid_1 = map(PlainResidualBlock, (generator.head, generator.mid_0, generator.mid_1))
        self.ups = nn.ModuleList(map(PlainResidualBlock, generator.ups))
        self.to(memory_format=torch.contiguous_format)

    def forward(self, semantics, norm_semantics=None, style=None):
        semantics = self.to_one_hot(semantics)
        norm_semantics = semantics if norm_semantics is None else self.to_one_hot(norm_semantics)
        if self.style_dim:
            x = self.stem(style).unflatten(1, (-1, *self.start_size))
        else:
            x = self.stem(F.interpolate(semantics, self.start_size, mode="nearest"))
        x = self.head(x, norm_semantics)
        x = self.mid_0(upsample(x), norm_semantics)
        x = self.mid_1(upsample(x) if self.upsamplings > 5 else x, norm_semantics)
        for block in self.ups:
            x = block(upsample(x), norm_semantics)
        return torch.tanh(self.to_rgb(F.leaky_relu(x, LEAK)))

    def to_one_hot(self, semantics):
        hard = semantics.dtype == torch.uint8
        return one_hot(semantics, self.num_classes).to(self.to_rgb.weight) if hard else semantics
