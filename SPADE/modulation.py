"""Spatially-adaptive normalisation (Park et al. 2019, eq. 1), and the other layers of SPADE that PyTorch has not.

The norm is a batch norm whose affine map depends on the layout.
"""

import torch
import torch.nn.functional as F
from torch import nn

from datasets.labels import one_hot
from SPADE.engine.device import widened
from SPADE.engine.distributed import world_size
from SPADE.engine.state import Iterative
from SPADE.ops.affine import EPS, MOMENTUM, batch_norm_affine
from SPADE.ops.convolution import conv2d
from SPADE.ops.neighbourhoods import neighbourhoods_of, two_convolutions


def semantics_at(semantics, height: int, width: int, num_classes: int):
    """Semantics for one resolution, float [N,C,height,width], by nearest resize.

    semantics: float [N,C,H,W] (differentiable), or hard labels uint8 [N,1,H,W], whose one-hot is made here only, after
    the resize.
    """
    semantics = resize(semantics, height, width)
    return one_hot(semantics, num_classes) if semantics.dtype == torch.uint8 else semantics


def resize(semantics, height: int, width: int):
    """Nearest resize of a layout [N,C,h,w] (differentiable) or of labels uint8 [N,1,h,w]."""
    if semantics.shape[-2:] == (height, width):
        return semantics
    return F.interpolate(semantics, (height, width), mode="nearest")


def layout_at(semantics, height: int, width: int, num_classes: int, hidden: int, neighbourhoods_on=("cpu",)):
    """The input that all modulations of one resolution share: the semantics, or what stands for them at a lower cost.

    Hard labels become their distinct neighbourhoods unless these are too many; `hidden` as in SPADENorm.
    neighbourhoods_on: types of devices where they do.
    """
    hard = semantics.dtype == torch.uint8 and not torch.compiler.is_compiling()
    if hard and semantics.device.type in neighbourhoods_on:
        semantics = resize(semantics, height, width)
        neighbourhoods = neighbourhoods_of(semantics, num_classes, hidden)
        if neighbourhoods is not None:
            return neighbourhoods
    # In the order in memory that the weights have: each of the norms' convolutions would sort it anew.
    return semantics_at(semantics, height, width, num_classes).contiguous(memory_format=torch.channels_last)


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
        if self.plain or (torch.compiler.is_compiling() and world_size() == 1):
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


# --- Other layers, and the initialisation of all SPADE networks ---


def instance_norm(x):
    """Instance norm without affine map, [N,K,h,w] -> [N,K,h,w].

    The weights make PyTorch keep float32 statistics of maps in half precision.
    """
    return F.instance_norm(x, weight=x.new_ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32)))


class SpectralConv2d(Iterative):
    """Convolution with weight / sigma(weight) (Miyato et al., *Spectral Normalization*, ICLR 2018, algorithm 1).

    sigma is estimated by one power iteration per forward pass in training mode, v before u; in evaluation mode the
    stored vectors are used as they are. The gradient flows through sigma with u and v constant. Under autocast sigma is
    still found in the weight's precision, and only the convolution is done in half.
    """

    estimates = ("u", "v")

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=0, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(in_channels * kernel * kernel), dim=0))
        self.stride, self.padding = (stride, stride), (padding, padding)

    def matrix(self):
        """The weight as [out, k * k * in]: of a weight that is channels last in memory a view, not a copy."""
        return self.weight.permute(0, 2, 3, 1).flatten(1)

    def right(self):
        """v, which is stored as [in * k * k], in the matrix's order."""
        return self.v.view(self.weight.shape[1], -1).t().flatten()

    def store(self, u, v):
        """v: in the matrix's order."""
        self.u.copy_(u)
        self.v.view(self.weight.shape[1], -1).copy_(v.view(-1, self.weight.shape[1]).t())

    @torch.no_grad()
    def iterate(self, iterations: int = 1):
        """Makes power iterations of the stored vectors."""
        matrix, u = self.matrix(), self.u
        for _ in range(iterations):
            v = F.normalize(matrix.t() @ u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
        self.store(u, v)

    def sigma(self):
        """Estimates the weight's largest singular value, scalar; in training mode after a power iteration."""
        matrix = self.matrix()
        with torch.no_grad():
            # Copies, not the buffers: a network may run twice before one backward pass, and the second run writes u, v.
            u, v = self.u.clone(), self.right()
            if self.training:
                v = F.normalize(matrix.t() @ u, dim=0)
        product = matrix @ v
        if self.training:
            u = F.normalize(product.detach(), dim=0)
            self.store(u, v)
        return u @ product

    def forward(self, x):
        """Divides the output by sigma where that is smaller than the weight, else the weight."""
        with torch.autocast(x.device.type, enabled=False):
            sigma = self.sigma()
            outputs = len(x) * (x.shape[2] // self.stride[0]) * (x.shape[3] // self.stride[1])  # of one channel, about
            afterwards = outputs < self.weight[0].numel()
            weight = self.weight if afterwards else self.weight / sigma
        y = conv2d(x, weight, None if afterwards else self.bias, self.stride, self.padding)
        if not afterwards:
            return y
        normalised = widened(y) / sigma
        return (normalised if self.bias is None else normalised + self.bias.view(-1, 1, 1)).to(y.dtype)


class RunningMoments(nn.Module):
    """Averages of the means and variances that a batch norm found in training; names as in PyTorch's."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))


class JoinedConv2d(nn.Conv2d):
    """Several convolutions of one input in one; the weights of one follow those of another."""

    def __init__(self, *arguments, parts: int, **more):
        super().__init__(*arguments, **more)
        self.parts = parts

    def one_by_one(self, x) -> list:
        """Returns the result of each of them; `forward` joins them."""
        weights, biases = self.weight.chunk(self.parts), self.bias.chunk(self.parts)
        return [F.conv2d(x, *pair, self.stride, self.padding) for pair in zip(weights, biases, strict=True)]


def initialise(network: nn.Module, gain: float = 0.02):
    """Xavier normal weights with this gain and zero biases, in place (Park et al. 2019)."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, SpectralConv2d)):
            # Joined convolutions are drawn one by one: fan_out is that of a part.
            for part in layer.weight.chunk(layer.parts if isinstance(layer, JoinedConv2d) else 1):
                nn.init.xavier_normal_(part, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, SpectralConv2d):
            layer.iterate(15)  # random u, v can make sigma almost 0, and the first passes explode
    return network


def plain_twin(network: nn.Module) -> nn.Module:
    """A copy of a generator that takes `plain`, made of plain operations: NCHW, each as PyTorch has it."""
    twin = type(network)(**network.arguments, plain=True).to(next(network.parameters()))
    twin.load_state_dict(network.state_dict())
    return twin.train(network.training)
