"""Winograd's form of a convolution against PyTorch's: outputs, gradients, gradients of input gradients."""

import pytest
import torch
import torch.nn.functional as F

from SPADE import winograd
from SPADE.convolution import conv2d
from SPADE.engine.device import place
from SPADE.layers import SpectralConv2d

SHAPES = [(1, 2, 2), (2, 6, 8), (3, 4, 36), (2, 20, 12), (9, 4, 8)]  # N, H, W
HOW = (1, 1), (1, 1)


def inputs(n, h, w, dtype=torch.float64, channels=3, out=5):
    """x, weight, bias, and a gradient of the output, maps channels last."""
    generator = torch.Generator().manual_seed(0)
    shapes = (n, channels, h, w), (out, channels, 3, 3), (out,), (n, out, h, w)
    x, weight, bias, gradient = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return place(x, "cpu"), weight, bias, place(gradient, "cpu")


@pytest.fixture(params=[4, 32, 256])
def tiles(request, monkeypatch):
    """Chunks of parts of an image, and of several images."""
    monkeypatch.setattr(winograd, "TILES", request.param)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 0)
    monkeypatch.setattr(winograd, "FEWEST_PIXELS", 0)


def errors(dtype, *sizes, **channels):
    """Largest errors of output, input gradient and weight gradient, relative to the largest number."""
    x, weight, bias, gradient = inputs(*sizes, **channels)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    y = F.conv2d(x, weight, bias, padding=1)
    wanted = y, *torch.autograd.grad(y, (x, weight), gradient)
    x, weight, bias, gradient = (t.detach().to(dtype) for t in (x, weight, bias, gradient))
    found = (
        winograd.convolution(x, weight, bias),
        winograd.input_gradient(gradient, weight),
        winograd.weight_gradient(gradient, x),
    )
    assert all(a.shape == b.shape for a, b in zip(found, wanted, strict=True))
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted, strict=True)]


@pytest.mark.parametrize("sizes", SHAPES)
def test_it_is_the_convolution(tiles, sizes):
    assert max(errors(torch.float64, *sizes)) < 1e-13


def test_float32_rounds_no_more_than_a_direct_convolution():
    assert max(errors(torch.float32, 2, 16, 32, channels=64, out=96)) < 1e-6


def test_gradients_of_gradients(always):
    found = []
    for function, dtype in ((conv2d, torch.float32), (F.conv2d, torch.float64)):
        x, weight, bias, _ = (t.to(dtype).requires_grad_() for t in inputs(2, 6, 8))
        x = place(x.detach(), "cpu").requires_grad_()
        assert winograd.suits(x, weight, *HOW) == (dtype == torch.float32)
        y = function(x, weight, bias, *HOW)
        (of_x,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (of_x.pow(3).sum() + y.square().sum()).backward()
        found.append([y, of_x, x.grad, weight.grad, bias.grad])
    for own, pytorchs in zip(*found, strict=True):
        assert (own - pytorchs).abs().max() <= 1e-5 * pytorchs.abs().max()


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_that_uses_it(always, learns, bias, monkeypatch):
    """Gradients of input and parameters of a spectrally normalised convolution, frozen or not."""
    torch.manual_seed(0)
    layer = place(SpectralConv2d(3, 5, 3, padding=1, bias=bias), "cpu").eval().requires_grad_(learns)
    x, _, _, gradient = inputs(2, 6, 8, torch.float32)
    x.requires_grad_()
    found = []
    for suits in (winograd.suits, lambda *arguments: False):
        monkeypatch.setattr(winograd, "suits", suits)
        y = layer(x)
        wanted = [x, *(p for p in layer.parameters() if learns)]
        found.append([y, *torch.autograd.grad(y, wanted, gradient)])
        with torch.no_grad():
            assert torch.allclose(layer(x), y, rtol=1e-5, atol=1e-6)
    for own, pytorchs in zip(*found, strict=True):
        assert (own - pytorchs).abs().max() <= 1e-5 * pytorchs.abs().max()


def test_what_it_leaves_to_pytorch(always):
    x, weight, *_ = inputs(2, 6, 8, torch.float32)
    assert winograd.suits(x, weight, *HOW)
    for other in (x.contiguous(), x[:, :, 1:], x.double(), x.bfloat16()):
        assert not winograd.suits(other, weight, *HOW)
    assert not winograd.suits(x, weight, (2, 2), (1, 1))
    assert not winograd.suits(x, weight[:, :, :1, :1], *HOW)
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.suits(x, weight, *HOW)
