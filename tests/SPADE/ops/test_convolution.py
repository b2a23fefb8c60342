"""Convolutions against PyTorch's: gradients, gradients of input gradients; the sub-pixel form of upsampling."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from SBGAN import networks
from SBGAN.losses import gradient_penalty
from SBGAN.networks import ProgressiveDiscriminator, UpBlock, rms_pixel_norm
from SPADE.ops import convolution
from SPADE.ops.convolution import conv2d, upsampled_conv3x3

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


@pytest.fixture(params=["four convolutions", "few pixels"])
def form(request, monkeypatch):
    monkeypatch.setattr(convolution, "FEWEST_PIXELS", 0 if request.param == "four convolutions" else 10**6)


def one_after_the_other(x, weight, bias):
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 4), (3, 5, 4, 8), (1, 2, 5, 3)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-14), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients(form, shape, dtype, tolerance, layout):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)
    weight = torch.randn(4, shape[1], 3, 3, dtype=dtype).contiguous(memory_format=layout)
    inputs = [t.requires_grad_() for t in (x, weight, torch.randn(4, dtype=dtype))]
    found, wanted = upsampled_conv3x3(*inputs), one_after_the_other(*inputs)
    assert found.shape == wanted.shape
    weights = torch.randn_like(wanted)
    pairs = [(found, wanted)]
    pairs += zip(*(torch.autograd.grad((y * weights).sum(), inputs) for y in (found, wanted)), strict=True)
    for a, b in pairs:
        assert (a - b).abs().max() <= tolerance * b.abs().max()


def test_the_block_is_what_its_layers_say(form):
    torch.manual_seed(0)
    block = UpBlock(6, 5, rms_pixel_norm).double()
    x = torch.randn(2, 6, 4, 8, dtype=torch.float64)
    wanted = F.interpolate(x, scale_factor=2, mode="nearest")
    for conv in (block.conv1, block.conv2):
        wanted = rms_pixel_norm(F.leaky_relu(conv(wanted), 0.2))
    torch.testing.assert_close(block(x), wanted)
