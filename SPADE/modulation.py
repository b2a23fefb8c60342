"""Spatially-adaptive normalisation (Park et al. 2019, eq. 1): batch norm whose affine map depends on the layout."""

import torch
import torch.nn.functional as F
from torch import nn

from datasets.labels import one_hot
from SPADE.affine import Affine, batch_moments, track
from SPADE.layers import BatchNorm
from SPADE.neighbourhoods import Neighbourhoods, PartSum, neighbourhoods_of


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


def layout_at(semantics, height: int, width: int, num_classes: int, hidden: int):
    """What all modulations of one resolution share: the semantics, or what stands for them at a lower cost.

    Hard labels become their distinct neighbourhoods unless these are too many; `hidden` as in SPADENorm.
    """
    if semantics.dtype == torch.uint8:
        semantics = resize(semantics, height, width)
        neighbourhoods = neighbourhoods_of(semantics, num_classes, hidden)
        if neighbourhoods is not None:
            return neighbourhoods
    return semantics_at(semantics, height, width, num_classes)


class SPADENorm(nn.Module):
    """BN(x) * (1 + gamma(s)) + beta(s); gamma and beta are two convolutions deep in the semantics s."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 128):
        super().__init__()
        self.norm = BatchNorm(channels)
        self.shared = nn.Conv2d(num_classes, hidden, 3, padding=1)
        self.gamma_beta = nn.Conv2d(hidden, 2 * channels, 3, padding=1)  # one convolution for both
        self.gamma_beta.parts = 2

    def forward(self, x, layout, upsample: bool = False, leak: float = 1.0, moments=None):
        """x [N,K,h,w] -> [N,K,h,w], or [N,K,2h,2w] with nearest upsampling before anything else.

        layout: semantics float [N,C,h,w] (of the output's size), or their Neighbourhoods. leak: slope of the leaky
        ReLU that follows, 1 for none. moments: batch_moments(x) where the caller has them already.
        """
        if not self.training:
            moments = self.norm.running_mean, self.norm.running_var
        elif moments is None:
            moments = batch_moments(x)
        if self.training:
            track(self.norm, *moments, x.numel() // x.shape[1] * (4 if upsample else 1))
        exact = isinstance(layout, Neighbourhoods)
        modulation = self.of_neighbourhoods(layout) if exact else self.of_semantics(layout)
        return Affine.apply(x, modulation, *moments, layout if exact else None, upsample, leak, self.training)

    def of_semantics(self, semantics):
        """[N,C,h,w] -> gamma and beta [N*h*w,2K]."""
        maps = self.gamma_beta(F.relu(self.shared(semantics), inplace=True))  # [N,2K,h,w]
        return maps.permute(0, 2, 3, 1).flatten(0, 2)

    def of_neighbourhoods(self, neighbourhoods):
        """U distinct ones -> gamma and beta [U,2K].

        A convolution of a patch is a matrix product. The second one is done for each 3x3 neighbourhood and each of the
        nine places that it may have within a 5x5 one, and the nine are summed afterwards: T*9 products instead of U*9.
        """
        weight, bias = self.shared.weight.flatten(1), self.shared.bias  # [hidden,C*9]
        hidden = F.relu(F.linear(neighbourhoods.one_hot.to(weight), weight, bias), inplace=True)  # [T,hidden]
        hidden = hidden * neighbourhoods.inside  # where the second convolution pads, it pads with zeros
        weight = self.gamma_beta.weight.permute(2, 3, 0, 1).flatten(0, 2)  # [9*2K,hidden]
        table = F.linear(hidden, weight).view(-1, 2 * len(self.norm.running_mean))  # [T*9,2K]
        return PartSum.apply(table, neighbourhoods) + self.gamma_beta.bias
