"""The spectrally normalised convolution against PyTorch's own, on maps larger and smaller than the weight."""

import pytest
import torch
from torch.nn.utils.parametrizations import spectral_norm

from SPADE.modulation import SpectralConv2d


@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (4, 2, 2)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("side", [2, 20])
@pytest.mark.parametrize("train", [False, True])
def test_spectral_convolution(side, bias, train, kernel, stride, padding):
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 6, kernel, stride, padding, bias).double()
    torch.nn.init.normal_(layer.weight)
    layer.iterate(2000)  # PyTorch begins with vectors of its own
    if bias:
        torch.nn.init.normal_(layer.bias)
    own = torch.nn.Conv2d(4, 6, kernel, stride, padding, bias=bias).double()
    own.load_state_dict({name: p.detach() for name, p in layer.named_parameters()})
    own = spectral_norm(own, n_power_iterations=1)
    for _ in range(2000):
        own(torch.zeros(1, 4, 4, 4, dtype=torch.float64))
    networks = layer.train(train), own.train(train)

    x = torch.randn(2, 4, side, side, dtype=torch.float64, requires_grad=True)
    found = []
    for network in networks:
        y = network(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        parameters = sorted(network.named_parameters(), key=lambda entry: "bias" not in entry[0])
        found.append([y, *torch.autograd.grad((y * weights).sum(), [x, *(p for _, p in parameters)])])
    assert (y.numel() < layer.weight.numel()) == (side == 2)  # both are covered
    for ours, pytorchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, pytorchs, rtol=1e-9, atol=1e-12)
