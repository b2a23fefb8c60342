"""Spatially-adaptive normalisation (Park et al. 2019, eq. 1): batch norm whose affine map depends on the layout."""

import torch
import torch.nn.functional as F
from torch import nn

from datasets.labels import one_hot
from SPADE.layers import JoinedConv2d, RunningMoments
from SPADE.ops.affine import EPS, MOMENTUM, batch_norm_affine
from SPADE.ops.neighbourhoods import neighbourhoods_of, two_convolutions


def semantics_at(semantics, height: int, width: int, num_classes: int):
    """Semantics for one resolution, float [N,C,height,width], by nearest resize.

    semantics: float [N,C,H,W] (differentiable), or hard labels uint8 [N,1,H,W], whose one-hot is made here only, after
    the resize.
    """
    semantics = resize(semantics, height, width)
    return one_hot(semantics, num_classes) if semantics.dtype == torch.uint8 else semantics


def resize(semantics, height, width):
    if semantics.shape[-2:] == (height, width):
        return semantics
    return F.interpolate(semantics, (height, width), mode="nearest")


def layout_at(semantics, height: int, width: int, num_classes: int, hidden: int, neighbourhoods_on=("cpu",)):
    """What all modulations of one resolution share: the semantics, or what stands for them at a lower cost.

    Hard labels become their distinct neighbourhoods unless these are too many; `hidden` as in SPADENorm.
    neighbourhoods_on: types of devices where they do.
    """
    if semantics.dtype == torch.uint8 and semantics.device.type in neighbourhoods_on:
        semantics = resize(semantics, height, width)
        neighbourhoods = neighbourhoods_of(semantics, num_classes, hidden)
        if neighbourhoods is not None:
            return neighbourhoods
    return semantics_at(semantics, height, width, num_classes)


class SPADENorm(nn.Module):
    """BN(x) * (1 + gamma) + beta, where gamma and beta are two convolutions deep in the layout."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 128, plain: bool = False):
        super().__init__()
        self.norm = RunningMoments(channels)
        self.shared = nn.Conv2d(num_classes, hidden, 3, padding=1)
        self.gamma_beta = JoinedConv2d(hidden, 2 * channels, 3, padding=1, parts=2)
        self.plain = plain

    def forward(self, x, layout, upsample: bool = False, leak: float = 1.0, moments=None):
        """leaky_relu(BN(x) * (1 + gamma) + beta): x [N,K,h,w] -> [N,K,h,w], or [N,K,2h,2w] with upsampling before.

        layout: semantics float [N,C,h,w] (of the output's size), or their Neighbourhoods. leak: slope of the leaky
        ReLU, 1 for none. moments: batch_moments(x) where the caller has them already.
        """
        if self.plain:
            return self.equation(x, layout, upsample, leak)
        gamma_beta = two_convolutions(layout, self.shared, self.gamma_beta)
        running = self.norm.running_mean, self.norm.running_var
        return batch_norm_affine(x, gamma_beta, layout, *running, self.training, upsample, leak, moments)

    def equation(self, x, semantics, upsample: bool, leak: float):
        """The same as it is written, one operation of PyTorch after the other, with this process's statistics.

        semantics: float [N,C,...] of any size.
        """
        if upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        semantics = F.interpolate(semantics, x.shape[-2:], mode="nearest")
        gamma, beta = self.gamma_beta.one_by_one(F.relu(self.shared(semantics)))
        running = self.norm.running_mean, self.norm.running_var
        normalised = F.batch_norm(x, *running, training=self.training, momentum=MOMENTUM, eps=EPS)
        y = normalised * (1 + gamma) + beta
        return y if leak == 1 else F.leaky_relu(y, leak)
