"""The convolution of the layout GAN against PyTorch's: gradients, and gradients of input gradients."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from SBGAN import networks
from SBGAN.losses import gradient_penalty
from SBGAN.networks import ProgressiveDiscriminator
from SPADE.ops.convolution import conv2d

SHAPES = [(3, 3, (1, 1), (1, 1)), (3, 3, (1, 2), (1, 1)), (4, 4, (1, 1), (0, 0)), (1, 1, (1, 1), (0, 0))]


def inputs(kernel):
    torch.manual_seed(0)
    shapes = (2, 3, 6, 8), (5, 3, *kernel), (5,)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("height, width, stride, padding", SHAPES)
def test_gradients_of_gradients(height, width, stride, padding):
    found = []
    for function in (partial(conv2d, twice=True), F.conv2d):
        x, weight, bias = inputs((height, width))
        y = function(x, weight, bias, stride, padding)
        (of_x,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (of_x.pow(3).sum() + y.square().sum()).backward()
        found.append([y, of_x, x.grad, weight.grad, bias.grad])
    for own, pytorchs in zip(*found, strict=True):
        torch.testing.assert_close(own, pytorchs, rtol=1e-12, atol=1e-9)


def test_the_penalty_of_a_discriminator(monkeypatch):
    torch.manual_seed(0)
    discriminator = ProgressiveDiscriminator(5, 2, 16, fmap_base=64, fmap_max=16).double()
    real, fake = torch.rand(2, 4, 5, 16, 32, dtype=torch.float64)
    mix = torch.rand(4, dtype=torch.float64)
    found = []
    for function in (conv2d, lambda *arguments, twice: F.conv2d(*arguments)):
        monkeypatch.setattr(networks, "conv2d", function)
        discriminator.zero_grad()
        penalty = gradient_penalty(discriminator, real, fake, mix)
        (penalty + discriminator(real).mean()).backward()
        found.append([p.grad for p in discriminator.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1])
    for own, pytorchs in zip(*found, strict=True):
        torch.testing.assert_close(own, pytorchs, rtol=1e-10, atol=1e-12)
