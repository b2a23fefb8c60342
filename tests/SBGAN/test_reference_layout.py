"""The progressive networks, WGAN-GP, the sampler and the layouts' colours against numbers of the published code."""

from functools import partial

import numpy as np
import pytest
import torch

from datasets.errors import UserError
from datasets.labels import colourise, load_space, one_hot
from SBGAN import losses
from SBGAN.discretize import RELEASED_FLOOR, argmax, resize, straight_through
from SBGAN.networks import ImageGenerator, LayoutGenerator, ProgressiveDiscriminator
from SBGAN.released import progressive as released
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


@pytest.mark.parametrize(("prefix", "temperature"), [("T1_", 1.0), ("T0p5_", 0.5)])
def test_straight_through_gumbel(prefix, temperature):
    case = Case("gumbel_straight_through")
    probabilities = case.input("probabilities")
    logs = probabilities.log().requires_grad_()
    noise = case.input("exponential_noise")
    layout = straight_through(logs, temperature, RELEASED_FLOOR, noise)
    (soft,) = layout.grad_fn.saved_tensors
    (layout * case.input("weights")).sum().backward()
    case.check(prefix + "index", argmax(layout))
    case.check(prefix + "onehot", layout)
    case.check(prefix + "soft", soft)
    gradient = logs.grad / probabilities  # d log p = d p / p
    case.check(prefix + "grad", gradient)
    case.check(prefix + "grad_log", gradient * (probabilities + RELEASED_FLOOR))
    assert not [name for name in case.left if name.startswith(prefix)]


def test_argmax_layouts():
    case = Case("argmax_sampler")
    labels = argmax(case.input("probabilities").log())
    large = resize(labels, *(case.config["scaling"] * side for side in labels.shape[-2:]))
    case.check("labels", large)
    case.check("onehot", one_hot(large, case.input("probabilities").shape[1]))
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


def test_misfits_are_named_key_by_key():
    case = Case("layout_D_a")
    weights = {key: torch.empty(shape, device="meta") for key, shape, _ in case.spec("discriminator")}
    assert len(released.discriminator_state(weights)) == len(weights)

    weights["blocks.0.conv3.weight"] = weights.pop("blocks.0.conv1.weight")
    weights["blocks.3.fc3.bias"] = torch.empty(2, device="meta")
    with pytest.raises(UserError) as error:
        released.discriminator_state(weights)
    assert "blocks.0.conv3.weight is unknown" in str(error.value)
    assert "blocks.0.conv1.weight is missing" in str(error.value)
    assert "blocks.3.fc3.bias has shape [2], wanted [1]" in str(error.value)

    with pytest.raises(UserError, match="no tensor found for blocks.0.conv2.weight"):
        released.generator_state({})


def test_widths_below_the_cap_are_read_off_the_shapes():
    network = LayoutGenerator(6, aspect=2, max_resolution=64, latent_dim=24, fmap_base=128, fmap_max=32)
    weights = by_released_name(network.state_dict(), released.generator_names(network, "mask"))
    assert released.generator_arguments(weights) == {**network.arguments, "pixel_norm": "mean_square"}

    network = ProgressiveDiscriminator(3, aspect=2, max_resolution=64, fmap_base=128, fmap_max=32)
    weights = by_released_name(network.state_dict(), released.discriminator_names(network, "rgb"))
    assert released.discriminator_arguments(weights, aspect=2) == {**network.arguments, "minibatch_stats": False}
