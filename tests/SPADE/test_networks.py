"""Networks and their losses against numbers of the published code, and under bf16 against themselves in float32."""

import numpy as np
import pytest
import torch

from datasets.errors import UserError
from datasets.labels import one_hot
from SBGAN.released import spade as released
from SPADE import losses, networks
from SPADE.engine import checkpoint
from SPADE.engine.device import place
from SPADE.modulation import SPADENorm, SpectralConv2d, instance_norm, layout_at, plain_twin
from SPADE.networks import (
    MultiscaleDiscriminator,
    SegmentationCritic,
    SPADEGenerator,
    StyleEncoder,
    conditional_critic,
    discriminate,
    sample_style,
    segmentation_widths,
    without_semantics,
)
from SPADE.ops import neighbourhoods
from SPADE.ops.affine import batch_moments
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


C = 4


def test_a_critic_without_semantics_is_one_that_sees_none():
    torch.manual_seed(0)
    critic, images = MultiscaleDiscriminator(C + 3, 4).eval(), torch.randn(2, 3, 32, 64)
    alone = without_semantics(critic).eval()
    assert alone.arguments == critic.arguments | {"in_channels": 3}
    torch.testing.assert_close(alone(images), critic(torch.cat([torch.zeros(2, C, 32, 64), images], 1)))


@pytest.mark.parametrize("height, blocks", [(64, 6), (96, 5), (32, 5), (512, 6)])
def test_sizes(height, blocks):
    assert segmentation_widths(64, height) == (128, 128, 256, 256, 512, 512)[:blocks]
    critic = SegmentationCritic(C, segmentation_widths(1, height))
    assert critic(torch.randn(1, 3, height, height)).shape == (1, C + 1, height, height)


def test_every_scale_and_skip_reaches_the_logits():
    torch.manual_seed(0)
    critic = SegmentationCritic(C, (4, 6, 8))
    critic(torch.randn(2, 3, 16, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())
    again = checkpoint.rebuild(conditional_critic, checkpoint.record(critic), torch.device("cpu"))
    x = torch.randn(1, 3, 16, 32)
    torch.testing.assert_close(again.eval()(x), critic.eval()(x))


CLASSES, HEIGHT, WIDTH = 12, 64, 128
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    ),
]


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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("exact", [True, False])
def test_the_generator(device, exact, monkeypatch, smooth):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: exact)
    generator, inputs = generator_and_inputs(device)
    assert max(distances(generator, inputs, device)) < 2e-2
    with autocast(device):
        assert generator(**inputs).dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("exact", [True, False])
def test_the_generator_is_as_close_as_pytorchs_layers(device, exact, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: exact)
    generator, inputs = generator_and_inputs(device)
    plain = plain_twin(generator)
    for own, pytorchs in zip(*(distances(g, inputs, device) for g in (generator, plain)), strict=True):
        assert own < 1.3 * pytorchs


@pytest.mark.parametrize("device", DEVICES)
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


@pytest.mark.parametrize("device", DEVICES)
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


@pytest.mark.parametrize("device", DEVICES)
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


@pytest.mark.parametrize("device", DEVICES)
def test_the_discriminator(device, smooth):
    torch.manual_seed(0)
    discriminator = place(MultiscaleDiscriminator(3, channels=8), device)
    assert max(distances(discriminator, {"x": torch.rand(2, 3, HEIGHT, WIDTH, device=device) * 2 - 1}, device)) < 2e-2


@pytest.mark.parametrize("device", DEVICES)
def test_the_style_encoder(device, smooth):
    torch.manual_seed(0)
    encoder = place(StyleEncoder(channels=4, style_dim=8), device)
    assert max(distances(encoder, {"image": torch.rand(1, 3, 256, 256, device=device) * 2 - 1}, device)) < 2e-2
