"""SPADE's networks and losses against numbers of the published code.

The generator's gradients are compared in float64. In float32 one activation that is 0 up to rounding may take the other
side of the leaky ReLU, depending on the machine, and where batch norm sees 4 values only that changes them by 5e-4.
"""

import numpy as np
import pytest
import torch

from datasets.errors import UserError
from SBGAN.released import spade as released
from SPADE import losses
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder, discriminate, sample_style
from tests.reference.cases import Case, by_released_name, gradients, norm

UPSAMPLINGS = {"normal": 5, "more": 6, "most": 7}


def generator(case: Case) -> SPADEGenerator:
    """In training mode, in the published initial state."""
    weights = case.released_state("generator")
    width = case.config["crop_size"]
    height = round(width / case.config["aspect_ratio"])
    arguments = released.generator_arguments(weights)
    upsamplings = UPSAMPLINGS[case.config["num_upsampling_layers"]]
    assert arguments.setdefault("upsamplings", upsamplings) == upsamplings
    assert arguments["channels"] == case.config["ngf"]
    network = SPADEGenerator(**arguments, height=height, width=width)
    network.load_state_dict(released.generator_state(weights))
    assert sum(p.numel() for p in network.parameters()) == case.network("generator")["parameters"]
    return network


def labels_of(semantics):
    """One-hot [N,C,H,W] -> uint8 [N,1,H,W]."""
    return semantics.argmax(1, keepdim=True).to(torch.uint8)


def check_buffers(case: Case, prefix: str, network, names):
    found = by_released_name(network.state_dict(), names)
    for key in case.outputs(prefix):
        case.check(prefix + key, found[key])


@pytest.mark.parametrize("case_id", ["spade_G_a", "spade_G_b", "spade_G_c", "spade_G_d", "spade_G_e"])
def test_generator_with_the_gradient_through_the_stem(case_id):
    case = Case(case_id)
    network, semantics = generator(case), case.input("seg")
    with torch.no_grad():
        case.check("eval_image", network.eval()(semantics))
        case.check("eval_image", network(labels_of(semantics)))
    if "train_image" in case.left:
        with torch.no_grad():
            case.check("train_image", network.train()(semantics))
        network, semantics = generator(case).double(), semantics.double().requires_grad_()
        image = network(semantics, semantics.detach())
        (image * case.input("weights")).sum().backward()
        case.check("train_image", image)
        case.check("train_seg_gradnorm", norm(semantics.grad))
        case.check("train_seg_grad_nonzero", semantics.grad.count_nonzero())
        if "train_seg_grad" in case.left:
            case.check("train_seg_grad", semantics.grad)
        names = released.generator_names(network)
        found = by_released_name(gradients(network), names)
        for key in case.outputs("train_gradnorm."):
            case.check(f"train_gradnorm.{key}", norm(found[key]))
        check_buffers(case, "train_after.", network, names)
    case.finish()


def test_generator_with_the_full_gradient():
    case = Case("spade_G_attached")
    network, semantics = generator(case).double(), case.input("seg").double().requires_grad_()
    image = network(semantics)
    (image * case.input("weights")).sum().backward()
    gradient = semantics.grad
    case.check("train_image", image)
    case.check("train_seg_gradnorm", norm(gradient))
    case.check("train_seg_grad_by_class", torch.stack([norm(gradient[:, c]) for c in range(gradient.shape[1])]))
    case.check("train_seg_gradnorm_odd", norm(gradient[:, :, 1::2, 1::2]))
    case.check("train_seg_grad_odd", gradient[:, :, 1::4, 1::4])
    case.finish()


@torch.no_grad()
def test_generator_from_a_style():
    case = Case("spade_G_vae")
    network = generator(case).eval()
    case.check("eval_image", network(case.input("seg"), style=case.input("z")))
    case.finish()


def discriminator(case: Case) -> MultiscaleDiscriminator:
    weights = case.released_state("discriminator")
    arguments = released.discriminator_arguments(weights, last_stride=2)
    assert arguments["strides"] == (2,) * case.config["n_layers_D"]
    assert arguments["in_channels"] == case.config["input_channels"]
    network = MultiscaleDiscriminator(**arguments)
    network.load_state_dict(released.discriminator_state(weights))
    assert sum(p.numel() for p in network.parameters()) == case.network("discriminator")["parameters"]
    return network


@pytest.mark.parametrize("case_id", ["image_D_cond", "image_D_uncond"])
def test_discriminator(case_id):
    case = Case(case_id)
    fake, real = case.input("fake"), case.input("real")
    semantics = case.input("seg") if case.config["conditional"] else None
    network = discriminator(case)
    names = released.discriminator_names(network)

    def both(outputs_of_fake, outputs_of_real):
        """The batch as it went through, per scale and layer."""
        return [
            [torch.cat(pair) for pair in zip(*scales, strict=True)]
            for scales in zip(outputs_of_fake, outputs_of_real, strict=True)
        ]

    with torch.no_grad():
        for i, scale in enumerate(both(*discriminate(network.eval(), fake, real, semantics))):
            case.check(f"eval_scale{i}_final", scale[-1])
        for i, scale in enumerate(both(*discriminate(network.train(), fake, real, semantics))):
            for j, layer in enumerate(scale[:-1]):
                case.check(f"train_scale{i}_layer{j}_mean", layer.mean((0, 2, 3)))
                case.check(f"train_scale{i}_layer{j}_std", layer.std((0, 2, 3), correction=0))
                case.check(f"train_scale{i}_layer{j}_shape", np.array(layer.shape))
            case.check(f"train_scale{i}_final", scale[-1])
    check_buffers(case, "train_after.", network, names)

    network = discriminator(case)
    fake.requires_grad_()
    of_fake, of_real = discriminate(network, fake, real, semantics)
    terms = {"hinge_generator": losses.hinge_generator(of_fake)}
    if semantics is not None:
        terms["feature_matching"] = case.config["lambda_feat"] * losses.feature_matching(of_fake, of_real)
    for name, term in terms.items():
        case.check(name, term)
        (gradient,) = torch.autograd.grad(term, fake, retain_graph=True)
        case.check(f"{name}_fake_gradnorm", norm(gradient))

    network = discriminator(case)
    of_fake, of_real = discriminate(network, fake.detach(), real, semantics)
    on_fake, on_real = losses.hinge_discriminator_fake(of_fake), losses.hinge_discriminator_real(of_real)
    case.check("hinge_discriminator_fake", on_fake)
    case.check("hinge_discriminator_real", on_real)
    (on_fake + on_real).backward()
    found = by_released_name(gradients(network), names)
    for key in case.outputs("hinge_discriminator_gradnorm."):
        case.check(f"hinge_discriminator_gradnorm.{key}", norm(found[key]))
    case.finish()


@pytest.mark.parametrize("case_id", ["encoder_resize", "encoder_native"])
@torch.no_grad()
def test_encoder(case_id, monkeypatch):
    case = Case(case_id)
    weights = case.released_state("encoder")
    network = StyleEncoder(**released.encoder_arguments(weights))
    network.load_state_dict(released.encoder_state(weights))
    assert sum(p.numel() for p in network.parameters()) == case.network("encoder")["parameters"]
    image = case.input("image")
    mean, log_variance = network.eval()(image)
    case.check("eval_mu", mean)
    case.check("eval_logvar", log_variance)
    mean, log_variance = network.train()(image)
    case.check("train_mu", mean)
    case.check("train_logvar", log_variance)
    check_buffers(case, "train_after.", network, released.encoder_names(network))
    case.check("train_z", sample_style(mean, log_variance, case.input("eps")))
    case.check("train_kld", case.config["lambda_kld"] * losses.kl_divergence(mean, log_variance))
    case.finish()


def test_misfits_are_named_key_by_key():
    case = Case("spade_G_a")
    weights = {key: torch.empty(shape, device="meta") for key, shape, _ in case.spec("generator")}
    weights["up_3.conv_1.weight"] = weights.pop("up_3.conv_1.weight_orig")
    weights["up_0.norm_s.mlp_beta.bias"] = torch.empty(3, device="meta")
    del weights["conv_img.bias"]
    with pytest.raises(UserError) as error:
        released.generator_state(weights)
    assert "up_3.conv_1.weight is unknown" in str(error.value)
    assert "up_3.conv_1.weight_orig is missing" in str(error.value)
    assert "conv_img.bias is missing" in str(error.value)
    assert "up_0.norm_s.mlp_beta.bias has shape [3], wanted [128]" in str(error.value)

    for translate in (released.generator_state, released.discriminator_state, released.encoder_state):
        with pytest.raises(UserError, match="no tensor found"):
            translate({"state": weights})
