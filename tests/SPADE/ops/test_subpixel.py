"""The sub-pixel form against upsampling and convolution, one after the other."""

import pytest
import torch
import torch.nn.functional as F

from SBGAN.networks import UpBlock, rms_pixel_norm
from SPADE.ops import convolution
from SPADE.ops.convolution import upsampled_conv3x3


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
