"""A segmentation network as SPADE's critic (Sushko et al., *OASIS*, ICLR 2021): each pixel is of a class, or fake."""

import torch
import torch.nn.functional as F
from torch import nn

from SPADE.layers import SpectralConv2d, initialise
from SPADE.networks import MultiscaleDiscriminator

LEAK = 0.2
MULTIPLES = (2, 2, 4, 4, 8, 8)  # of `ndf`: the published widths are those of 64


class Block(nn.Module):
    """Two convolutions beside a shortcut, [N,in,h,w] -> [N,out,h,w]."""

    def __init__(self, in_channels, out_channels, activate):
        super().__init__()
        self.conv_0 = SpectralConv2d(in_channels, out_channels, 3, padding=1)
        self.conv_1 = SpectralConv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = SpectralConv2d(in_channels, out_channels, 1, bias=False)
        self.activate = activate  # everything but an image

    def forward(self, x):
        y = self.conv_0(F.leaky_relu(x, LEAK) if self.activate else x)
        return self.conv_1(F.leaky_relu_(y, LEAK)) + self.shortcut(x)


class SegmentationCritic(nn.Module):
    """Encoder, and decoder with skips: image [N,3,H,W] -> logits [N,C+1,H,W] of the classes and, last, of "fake"."""

    def __init__(
        self,
        num_classes: int,
        widths: tuple[int, ...] = (128, 128, 256, 256, 512, 512),  # of the blocks down, each of which halves the image
    ):
        super().__init__()
        self.arguments = dict(num_classes=num_classes, widths=tuple(widths))
        above = [3, *widths]
        self.down = nn.ModuleList([Block(above[i], width, activate=i > 0) for i, width in enumerate(widths)])
        up = [*widths[-2::-1], widths[0]]  # from the coarsest block on
        skips = [0, *widths[-2::-1]]
        below = [widths[-1], *up]
        self.up = nn.ModuleList([Block(a + s, b, True) for a, s, b in zip(below, skips, up, strict=False)])
        self.last = SpectralConv2d(up[-1], num_classes + 1, 1)
        initialise(self, gain=1.0)

    def forward(self, x):
        skips = []
        for block in self.down:
            x = F.avg_pool2d(block(x), 2)
            skips.append(x)
        x = skips.pop()
        for i, block in enumerate(self.up):
            x = torch.cat([x, skips.pop()], 1) if i else x
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.last(F.leaky_relu_(x, LEAK))


def segmentation_widths(ndf: int, height: int) -> tuple[int, ...]:
    """As published for ndf 64 and images of 64 rows and more; as many blocks as the image can be halved."""
    halvings = (height & -height).bit_length() - 1
    return tuple(multiple * ndf for multiple in MULTIPLES[:halvings])


def conditional_critic(**arguments):
    """The network of stage 2's "discriminator": either kind, told apart by what it is built with."""
    kind = SegmentationCritic if "widths" in arguments else MultiscaleDiscriminator
    return kind(**arguments)
