"""The layout GAN under bf16 autocast against itself in float32: the rounding of bf16 (2^-9) and no more.

Gradients are compared with a slope of 1 in the leaky ReLU: where the slope changes, rounding decides which one it is.
"""

import pytest
import torch

from SBGAN import networks
from SBGAN.discretize import straight_through
from SBGAN.networks import (
    ImageGenerator,
    LayoutGenerator,
    ProgressiveDiscriminator,
    mean_square_pixel_norm,
    rms_pixel_norm,
)
from SPADE.engine.device import place

SIZES = dict(aspect=2, max_resolution=32, fmap_base=512, fmap_max=32)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    ),
]
pytestmark = pytest.mark.parametrize("device", DEVICES)


def distance(found, wanted) -> float:
    """Relative, in L2."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def both(network, x, alpha, device, half: bool):
    """Output, and the gradients of the input and of all weights together."""
    x = x.clone().requires_grad_()
    network.zero_grad()
    with torch.autocast(device, torch.bfloat16, half):
        output = network(x, 32, alpha)
    assert output.dtype == torch.float32
    output.square().sum().backward()
    gradients = [x.grad, *(p.grad for p in network.parameters() if p.grad is not None)]
    return output.detach(), torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("alpha", [0.4, 1.0])
@pytest.mark.parametrize("kind", [LayoutGenerator, ImageGenerator, ProgressiveDiscriminator])
def test_outputs_and_gradients(device, kind, alpha, monkeypatch):
    monkeypatch.setattr(networks, "LEAK", 1.0)
    torch.manual_seed(0)
    network = place(kind(5, **SIZES), device)
    x = torch.randn(4, network.latent_dim) if hasattr(network, "latent_dim") else torch.randn(4, 5, 32, 64)
    pairs = zip(*(both(network, x.to(device), alpha, device, half) for half in (True, False)), strict=True)
    for found, wanted in pairs:
        assert distance(found, wanted) < 2e-2


@pytest.mark.parametrize("norm, root", [(rms_pixel_norm, 0.5), (mean_square_pixel_norm, 1.0)])
def test_pixel_norm(device, norm, root):
    torch.manual_seed(0)
    x = (100 * torch.randn(2, 64, 5, 7, device=device)).bfloat16()
    wanted = x.double() / x.double().square().mean(1, keepdim=True).pow(root)
    found = norm(x)
    assert found.dtype == torch.bfloat16 and distance(found, wanted) < 2**-8


def test_layouts_are_probabilities_and_samples_to_the_bit(device):
    torch.manual_seed(0)
    generator = place(LayoutGenerator(5, **SIZES), device)
    with torch.autocast(device, torch.bfloat16):
        scores = generator(torch.randn(4, generator.latent_dim, device=device))
        layouts = straight_through(scores)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones_like(scores[:, 0]))
    assert layouts.dtype == torch.float32 and ((layouts == 0) | (layouts == 1)).all()
    assert (layouts.sum(1) == 1).all()
