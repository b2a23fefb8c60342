"""Spatially-adaptive normalisation (Park et al. 2019, eq. 1): batch norm whose affine map depends on the layout."""

import torch
import torch.nn.functional as F
from torch import nn

from datasets.labels import one_hot
from SPADE.layers import BatchNorm


def semantics_at(semantics, height: int, width: int, num_classes: int):
    """Semantics for one resolution, float [N,C,height,width], by nearest resize.

    semantics: float [N,C,H,W] (differentiable), or hard labels uint8 [N,1,H,W], whose one-hot is made here only, after
    the resize.
    """
    if semantics.shape[-2:] != (height, width):
        semantics = F.interpolate(semantics, (height, width), mode="nearest")
    return one_hot(semantics, num_classes) if semantics.dtype == torch.uint8 else semantics


class SPADENorm(nn.Module):
    """BN(x) * (1 + gamma(s)) + beta(s); gamma and beta are two convolutions deep in the semantics s."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 128):
        super().__init__()
        self.norm = BatchNorm(channels)
        self.shared = nn.Conv2d(num_classes, hidden, 3, padding=1)
        self.gamma_beta = nn.Conv2d(hidden, 2 * channels, 3, padding=1)  # one convolution for both
        self.gamma_beta.parts = 2

    def forward(self, x, semantics):
        """x [N,K,h,w], semantics [N,C,h,w] -> [N,K,h,w]."""
        gamma, beta = self.gamma_beta(F.relu(self.shared(semantics))).chunk(2, 1)  # [N,K,h,w] each
        return torch.addcmul(beta, self.norm(x), 1 + gamma)
