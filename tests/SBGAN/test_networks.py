"""The progressive networks against numbers of the published code, and under bf16 against themselves in float32."""

from functools import partial

import numpy as np
import pytest
import torch

from datasets.labels import colourise, load_space
from SBGAN import losses, networks
from SBGAN.discretize import straight_through
from SBGAN.networks import (
    ImageGenerator,
    LayoutGenerator,
    ProgressiveDiscriminator,
    mean_square_pixel_norm,
    rms_pixel_norm,
)
from SBGAN.released import progressive as released
from SBGAN.train_progressive_seg import components_for
from SPADE.engine.device import place
from tests.reference.cases import Case, by_released_name, norm


def generator(cls, case: Case):
    weights = case.released_state("generator")
    arguments = released.generator_arguments(weights)
    assert arguments["aspect"] == case.config["aspect_ratio"]
    assert arguments["max_resolution"] == case.config["max_dim"]
    assert arguments["latent_dim"] == case.config["latent_dim"]
    network = cls(**arguments)
    network.load_state_dict(released.generator_state(weights))
    assert sum(p.numel() for p in network.parameters()) == case.network("generator")["parameters"]
    return network


def discriminator(case: Case):
    weights = case.released_state("discriminator")
    network = ProgressiveDiscriminator(**released.discriminator_arguments(weights, case.config["aspect_ratio"]))
    network.load_state_dict(released.discriminator_state(weights))
    assert network.max_resolution == case.config["max_dim"]
    assert sum(p.numel() for p in network.parameters()) == case.network("discriminator")["parameters"]
    return network


@pytest.mark.parametrize("case_id", ["layout_G_a", "layout_G_b", "layout_G_c"])
@torch.no_grad()
def test_layout_generator(case_id):
    case = Case(case_id)
    network = generator(LayoutGenerator, case)
    z = case.input("z")
    for resolution in case.outputs("forward_res"):
        case.check(f"forward_res{resolution}", network(z, int(resolution)).exp())
    for resolution in case.outputs("interpolate_res"):
        case.check(f"interpolate_res{resolution}", network(z, int(resolution), case.config["alpha"]).exp())
    case.finish()


@pytest.mark.parametrize("case_id", ["layout_D_a", "layout_D_b", "layout_D_c"])
def test_layout_discriminator_and_wgan_gp(case_id):
    case = Case(case_id)
    network = discriminator(case)
    alpha = case.config["alpha"]
    with torch.no_grad():
        for resolution in case.outputs("forward_res"):
            case.check(f"forward_res{resolution}", network(case.input(f"real_res{resolution}"), int(resolution)))
        for resolution in case.outputs("interpolate_res"):
            scores = network(case.input(f"real_res{resolution}"), int(resolution), alpha)
            case.check(f"interpolate_res{resolution}", scores)

    weights = by_released_name(dict(network.named_parameters()), released.discriminator_names(network, "mask"))
    resolution = next(name[len("fake_res") :] for name in case.entry["inputs"] if name.startswith("fake_res"))
    real, fake = case.input(f"real_res{resolution}"), case.input(f"fake_res{resolution}")
    mix = torch.tensor(case.config["gp_mixing"])
    for prefix, fade in (("wgan_plain_", 1.0), ("wgan_fade_", alpha)):
        score = partial(network, resolution=int(resolution), alpha=fade)
        penalty = losses.gradient_penalty(score, real, fake, mix)
        loss = losses.wasserstein_discriminator(score, real, fake) + case.config["gp_weight"] * penalty
        case.check(prefix + "penalty", penalty)
        case.check(prefix + "loss", loss)
        case.check(prefix + "generator_loss", losses.wasserstein_generator(score(fake)))
        keys = case.outputs(prefix + "gradnorm.")
        for key, gradient in zip(keys, torch.autograd.grad(loss, [weights[key] for key in keys]), strict=True):
            case.check(f"{prefix}gradnorm.{key}", norm(gradient))
    case.finish()


@torch.no_grad()
def test_rgb_networks():
    case = Case("rgb_progressive")
    resolution, alpha = case.config["resolution"], case.config["alpha"]
    network = generator(ImageGenerator, case)
    case.check("G_forward", network(case.input("z"), resolution))
    case.check("G_interpolate", network(case.input("z"), resolution, alpha))
    network = discriminator(case)
    case.check("D_forward", network(case.input("image"), resolution))
    case.check("D_interpolate", network(case.input("image"), resolution, alpha))
    case.finish()


@pytest.mark.parametrize(
    ("case_id", "space", "differ"),
    [
        ("colour_cityscapes35", "cityscapes", ()),
        ("colour_indoor", "ade_indoor", ()),
        # The published 20-class map has these in colours that are not Cityscapes' own; sky is as buildings there.
        ("colour_cityscapes20", "cityscapes_25k", ("building", "wall", "fence", "vegetation", "sky")),
    ],
)
def test_colours_of_layouts(case_id, space, differ):
    case, space = Case(case_id), load_space(space)
    labels = case.input("labels")[:, 0].numpy()  # [N,H,W]
    colours = colourise(labels, space.colours) / 127.5 - 1  # [N,H,W,3]
    wanted = case.output("colours").transpose(0, 2, 3, 1)
    for label, name in enumerate(space.names):
        assert np.allclose(colours[labels == label], wanted[labels == label], atol=1e-4) != (name in differ), name


SIZES = dict(aspect=2, max_resolution=32, fmap_base=512, fmap_max=32)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    ),
]


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


@pytest.mark.parametrize("device", DEVICES)
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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm, root", [(rms_pixel_norm, 0.5), (mean_square_pixel_norm, 1.0)])
def test_pixel_norm(device, norm, root):
    torch.manual_seed(0)
    x = (100 * torch.randn(2, 64, 5, 7, device=device)).bfloat16()
    wanted = x.double() / x.double().square().mean(1, keepdim=True).pow(root)
    found = norm(x)
    assert found.dtype == torch.bfloat16 and distance(found, wanted) < 2**-8


@pytest.mark.parametrize("device", DEVICES)
def test_layouts_are_probabilities_and_samples_to_the_bit(device):
    torch.manual_seed(0)
    generator = place(LayoutGenerator(5, **SIZES), device)
    with torch.autocast(device, torch.bfloat16):
        scores = generator(torch.randn(4, generator.latent_dim, device=device))
        layouts = straight_through(scores)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones_like(scores[:, 0]))
    assert layouts.dtype == torch.float32 and ((layouts == 0) | (layouts == 1)).all()
    assert (layouts.sum(1) == 1).all()


def test_a_told_generator_depends_on_what_it_is_told():
    torch.manual_seed(0)
    generator = LayoutGenerator(3, 2, 8, latent_dim=10, fmap_max=8, share_components=2)
    z = torch.randn(2, 10)
    drawn = generator.shares_of(z)
    assert torch.equal(generator(z), generator(z, shares=drawn))
    other = torch.tensor([[0.9, 0.05, 0.05]]).expand(2, -1)
    assert not torch.allclose(generator(z, shares=other), generator(z))
    moved = z.clone()
    moved[:, -4:] = 5  # the entries that draw shares, which now are given
    assert torch.equal(generator(moved, shares=other), generator(z, shares=other))
    assert components_for(5) == 1 and components_for(1000) == 8
