"""SPADE's networks under bf16 autocast against themselves in float32: the rounding of bf16 (2^-9) and no more.

Rounding also decides on which side of the leaky ReLU an activation near 0 falls, which changes gradients by a tenth.
So gradients are compared with a slope of 1, and with the other slope to what PyTorch's own layers make of bf16.
"""

import pytest
import torch

from datasets.labels import one_hot
from SPADE import networks
from SPADE.engine.device import place
from SPADE.modulation import SPADENorm, SpectralConv2d, instance_norm, layout_at, plain_twin
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder
from SPADE.ops import neighbourhoods
from SPADE.ops.affine import batch_moments

CLASSES, HEIGHT, WIDTH = 12, 64, 128
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    ),
]
pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture
def smooth(monkeypatch):
    monkeypatch.setattr(networks, "LEAK", 1.0)


def labels_on(device, n=2):
    """Blocks of 8x8: uint8 [n,1,64,128]."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, CLASSES, (n, 1, HEIGHT // 8, WIDTH // 8), generator=generator).to(torch.uint8)
    return blocks.repeat_interleave(8, 2).repeat_interleave(8, 3).to(device)


def autocast(device, enabled=True):
    return torch.autocast(device, torch.bfloat16, enabled)


def distance(found, wanted) -> float:
    """Relative, in L2."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def both(network, inputs: dict, device, half: bool):
    """Outputs (joined) and the gradients of the inputs and of all weights together."""
    inputs = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    network.zero_grad()
    with autocast(device, half):
        output = network(**inputs)
    output = torch.cat([part.flatten().float() for part in flattened(output)])
    weights = torch.randn(len(output), generator=torch.Generator().manual_seed(1)).to(device)
    (output * weights).sum().backward()
    gradients = [p.grad for p in network.parameters()] + [v.grad for v in inputs.values() if v.requires_grad]
    assert all(g.dtype == torch.float32 for g in gradients)
    return output.detach(), torch.cat([g.flatten() for g in gradients])


def flattened(output):
    return [output] if isinstance(output, torch.Tensor) else [t for part in output for t in flattened(part)]


def distances(network, inputs: dict, device):
    """Half precision from float32: of the outputs, and of the gradients."""
    return [distance(*pair) for pair in zip(*(both(network, inputs, device, h) for h in (True, False)), strict=True)]


def generator_and_inputs(device):
    torch.manual_seed(0)
    generator = place(SPADEGenerator(CLASSES, HEIGHT, WIDTH, channels=8, hidden=32), device)
    semantics = one_hot(labels_on(device), CLASSES).float()
    return generator, {"semantics": semantics, "norm_semantics": labels_on(device)}


@pytest.mark.parametrize("exact", [True, False])
def test_the_generator(device, exact, monkeypatch, smooth):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: exact)
    generator, inputs = generator_and_inputs(device)
    assert max(distances(generator, inputs, device)) < 2e-2
    with autocast(device):
        assert generator(**inputs).dtype == torch.float32


@pytest.mark.parametrize("exact", [True, False])
def test_the_generator_is_as_close_as_pytorchs_layers(device, exact, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: exact)
    generator, inputs = generator_and_inputs(device)
    plain = plain_twin(generator)
    for own, pytorchs in zip(*(distances(g, inputs, device) for g in (generator, plain)), strict=True):
        assert own < 1.3 * pytorchs


@pytest.mark.parametrize("upsample", [False, True])
def test_both_forms_of_the_modulation(device, upsample, monkeypatch):
    found = []
    for exact in (True, False):
        monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments, exact=exact: exact)
        torch.manual_seed(0)
        norm = place(SPADENorm(6, CLASSES, hidden=32), device)
        x = torch.randn(2, 6, HEIGHT >> upsample, WIDTH >> upsample, device=device).bfloat16().requires_grad_()
        with autocast(device):
            y = norm(x, layout_at(labels_on(device), HEIGHT, WIDTH, CLASSES, 32), upsample, 0.2)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        assert x.grad.dtype == torch.bfloat16
        found.append([y, x.grad, *(p.grad for p in norm.parameters())])
    for exact, dense in zip(*found, strict=True):
        assert distance(exact, dense) < 1e-2


def test_statistics_are_those_of_float32(device):
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 5, 64, 96, device=device) + 7).bfloat16()
    for form in (x, x.contiguous(memory_format=torch.channels_last)):
        mean, variance = batch_moments(form)
        wanted = form.double().var((0, 2, 3), unbiased=False)
        assert mean.dtype == variance.dtype == torch.float32
        assert distance(mean, form.double().mean((0, 2, 3))) < 1e-5 and distance(variance, wanted) < 1e-5
        normalised = instance_norm(form)
        centred = form.double() - form.double().mean((2, 3), keepdim=True)
        wanted = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        assert normalised.dtype == torch.bfloat16 and distance(normalised, wanted) < 2**-9


def test_spectral_norm_is_that_of_float32(device):
    torch.manual_seed(0)
    conv = place(SpectralConv2d(8, 16, 3), device)
    torch.nn.init.normal_(conv.weight)
    conv.iterate(15)
    sigma = torch.linalg.matrix_norm(conv.weight.double().flatten(1), 2)
    x = torch.randn(1, 8, 9, 9, device=device)
    with autocast(device):
        y = conv(x)
    assert y.dtype == torch.bfloat16 and conv.u.dtype == torch.float32
    assert distance(y, torch.nn.functional.conv2d(x.double(), conv.weight.double() / sigma)) < 2e-2
    assert abs(torch.linalg.vector_norm(conv.u) - 1) < 1e-5


def test_the_discriminator(device, smooth):
    torch.manual_seed(0)
    discriminator = place(MultiscaleDiscriminator(3, channels=8), device)
    assert max(distances(discriminator, {"x": torch.rand(2, 3, HEIGHT, WIDTH, device=device) * 2 - 1}, device)) < 2e-2


def test_the_style_encoder(device, smooth):
    torch.manual_seed(0)
    encoder = place(StyleEncoder(channels=4, style_dim=8), device)
    assert max(distances(encoder, {"image": torch.rand(1, 3, 256, 256, device=device) * 2 - 1}, device)) < 2e-2
