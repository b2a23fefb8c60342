"""Winograd's form of a convolution against PyTorch's: outputs, gradients, gradients of input gradients."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from SPADE.engine.device import place
from SPADE.modulation import SpectralConv2d, initialise
from SPADE.ops import winograd
from SPADE.ops.convolution import conv2d

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


def errors(functions, dtype, *sizes, **channels):
    """Largest errors of output, input gradient and weight gradient, relative to the largest number in float64."""
    x, weight, bias, gradient = inputs(*sizes, **channels)
    wanted = direct(x, weight, bias, gradient)
    found = functions(*(t.to(dtype) for t in (x, weight, bias, gradient)))
    assert all(a.shape == b.shape for a, b in zip(found, wanted, strict=True))
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted, strict=True)]


def direct(x, weight, bias, gradient):
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = F.conv2d(x, weight, bias, padding=1)
    return y, *torch.autograd.grad(y, (x, weight), gradient)


def by_winograd(x, weight, bias, gradient):
    return (
        winograd.convolution(x, weight, bias),
        winograd.input_gradient(gradient, weight),
        winograd.weight_gradient(gradient, x),
    )


@pytest.mark.parametrize("sizes", SHAPES)
def test_it_is_the_convolution(tiles, sizes):
    assert max(errors(by_winograd, torch.float64, *sizes)) < 1e-13


def test_float32_rounds_about_as_a_direct_convolution_does():
    sizes, channels = (2, 16, 32), dict(channels=192, out=256)
    found = errors(by_winograd, torch.float32, *sizes, **channels)
    for own, directly in zip(found, errors(direct, torch.float32, *sizes, **channels), strict=True):
        assert own < 2 * directly


def test_gradients_of_gradients(winograd_everywhere):
    found = []
    for function, dtype in ((partial(conv2d, twice=True), torch.float32), (F.conv2d, torch.float64)):
        x, weight, bias, _ = (t.to(dtype).requires_grad_() for t in inputs(2, 6, 8))
        x = place(x.detach(), "cpu").requires_grad_()
        assert winograd.suits(x, weight, *HOW) == (dtype == torch.float32)
        y = function(x, weight, bias, *HOW)
        (of_x,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (of_x.pow(3).sum() + y.square().sum()).backward()
        found.append([y, of_x, x.grad, weight.grad, bias.grad])
    for own, pytorchs in zip(*found, strict=True):
        assert (own - pytorchs).abs().max() <= 1e-5 * pytorchs.abs().max()


@pytest.mark.parametrize("out", [5, 40])  # the latter's weight is larger than its output
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_that_uses_it(winograd_everywhere, bias, learns, out, monkeypatch):
    """Gradients of input and parameters of a spectrally normalised convolution, frozen or not."""
    torch.manual_seed(0)
    channels = 3 if out == 5 else 24
    layer = initialise(place(SpectralConv2d(channels, out, 3, padding=1, bias=bias), "cpu"), gain=1.0)
    layer.eval().requires_grad_(learns)
    x, _, _, gradient = inputs(2, 6, 8, torch.float32, channels, out)
    x.requires_grad_()
    found, calls = [], []
    product = winograd.product
    monkeypatch.setattr(winograd, "product", lambda *arguments: calls.append(1) or product(*arguments))
    for suits in (winograd.suits, lambda *arguments: False):
        monkeypatch.setattr(winograd, "suits", suits)
        y = layer(x)
        wanted = [x, *(p for p in layer.parameters() if learns)]
        found.append([y, *torch.autograd.grad(y, wanted, gradient)])
        with torch.no_grad():
            assert torch.allclose(layer(x), y, rtol=1e-5, atol=1e-6)
    assert len(calls) == 3  # output, input gradient, output without gradients
    for own, pytorchs in zip(*found, strict=True):
        assert (own - pytorchs).abs().max() <= 1e-5 * pytorchs.abs().max()


def test_a_bias_alone_may_learn(winograd_everywhere):
    x, weight, bias, gradient = inputs(2, 6, 8, torch.float32)
    conv2d(x, weight, bias.requires_grad_(), *HOW).backward(gradient)
    torch.testing.assert_close(bias.grad, gradient.sum((0, 2, 3)))


def test_output_and_gradients_decide_alike(monkeypatch):
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 192)
    weight = torch.empty(256, 128, 3, 3)
    maps = [place(torch.empty(1, channels, 64, 128), "cpu") for channels in (128, 256)]
    assert [winograd.suits(x, weight, *HOW) for x in maps] == [False, False]
    assert [winograd.suits(x, torch.empty(256, 256, 3, 3), *HOW) for x in maps] == [True, True]


def test_what_it_leaves_to_pytorch(winograd_everywhere):
    x, weight, *_ = inputs(2, 6, 8, torch.float32)
    assert winograd.suits(x, weight, *HOW)
    for other in (x.contiguous(), x[:, :, 1:], x.double(), x.bfloat16()):
        assert not winograd.suits(other, weight, *HOW)
    assert not winograd.suits(x, weight, (2, 2), (1, 1))
    assert not winograd.suits(x, weight[:, :, :1, :1], *HOW)
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.suits(x, weight, *HOW)
