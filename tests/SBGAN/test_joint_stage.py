"""Stage 3's losses, gradients and updates against numbers of the published code; the image's gradient in the layout."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

import SPADE.losses
import SPADE.modulation
from datasets.labels import one_hot
from SBGAN import joint_stage
from SBGAN.discretize import RELEASED_FLOOR, argmax, straight_through
from SBGAN.joint_stage import (
    Networks,
    discriminator_terms,
    generator_terms,
    images_of,
    layouts_to_draw,
    pretraining_terms,
    sample_layouts,
)
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.released import progressive, spade
from SBGAN.train_finetune_end2end import FinetuneSettings
from SPADE.engine.step import descend, frozen, micro_batches, set_learning_rate
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator
from tests.reference.cases import Case, by_released_name, norm

# The published names of the weighted loss terms
GENERATOR_TERMS = {
    "GAN_pro": ["layout_wgan"],
    "GAN_fff": ["gan_generated"],
    "GAN_ffr": ["gan_real_layout"],
    "GAN_Feat": ["feature_matching_real_layout"],
}
DISCRIMINATOR_TERMS = {
    "GAN_pro": ["layout_wgan", "layout_gradient_penalty"],
    "D_Fake_ffr": ["fake_real_layout"],
    "D_real": ["real_real_layout", "real_generated"],
    "D_Fake_fff": ["fake_generated"],
}


class Case64(Case):
    def input(self, name):
        value = super().input(name)
        return value.double() if value.is_floating_point() else value

    def mix(self):
        return torch.tensor(self.config["gp_mixing"], dtype=torch.float64)


@pytest.fixture
def one_hot_in_float64(monkeypatch):
    for module in (SPADE.modulation, SPADE.losses, joint_stage):
        monkeypatch.setattr(module, "one_hot", lambda labels, num_classes: one_hot(labels, num_classes).double())


def by_published_term(terms: dict, published: dict) -> dict:
    assert sorted(terms) == sorted(name for names in published.values() for name in names)
    return {loss: sum(terms[name] for name in names) for loss, names in published.items()}


def settings(case: Case) -> FinetuneSettings:
    c = case.config
    return FinetuneSettings(
        store="",
        name="",
        layout_name="",
        spade_name="",
        lambda_pgan=c["lambda_pgan"],
        lambda_D2=c["lambda_D2"],
        lambda_feat=c["lambda_feat"],
        penalty_weight=c["gp_weight"],
        temperature=c["T"],
        floor=RELEASED_FLOOR,
        lr=c["lr"],
        lr_pgan=c["lr_pgan"],
        layout_grad="stem",
    )


@pytest.fixture(scope="module")
def initial():
    """The five networks and their published initial states."""
    case = Case64("e2e_generator_losses")
    c = case.config
    weights = {entry["name"]: case.released_state(entry["name"]) for entry in case.entry["networks"]}
    of_layout, of_spade = progressive, spade
    height, width = c["crop_size"] // c["aspect_ratio"], c["crop_size"]
    networks = Networks(
        LayoutGenerator(**of_layout.generator_arguments(weights["layout_generator"])),
        ProgressiveDiscriminator(
            **of_layout.discriminator_arguments(weights["layout_discriminator"], c["aspect_ratio"])
        ),
        SPADEGenerator(**of_spade.generator_arguments(weights["spade_generator"]), height=height, width=width),
        *(
            MultiscaleDiscriminator(**of_spade.discriminator_arguments(weights[name], last_stride=2))
            for name in ("image_discriminator", "image_discriminator_2")
        ),
    )
    states = {
        "layout_generator": of_layout.generator_state(weights["layout_generator"]),
        "layout_discriminator": of_layout.discriminator_state(weights["layout_discriminator"]),
        "spade_generator": of_spade.generator_state(weights["spade_generator"]),
        "image_discriminator": of_spade.discriminator_state(weights["image_discriminator"]),
        "image_discriminator_2": of_spade.discriminator_state(weights["image_discriminator_2"]),
    }
    return networks, states


@pytest.fixture
def networks(initial) -> Networks:
    """In the initial state and in training mode."""
    networks, states = initial
    for name, state in states.items():
        network = getattr(networks, name)
        network.double().load_state_dict(state)
        network.train().requires_grad_(True).zero_grad()
    return networks


def names_of(networks: Networks) -> dict:
    """network -> our key -> published keys"""
    return {
        "layout_generator": progressive.generator_names(networks.layout_generator, "mask"),
        "layout_discriminator": progressive.discriminator_names(networks.layout_discriminator, "mask"),
        "spade_generator": spade.generator_names(networks.spade_generator),
        "image_discriminator": spade.discriminator_names(networks.image_discriminator),
        "image_discriminator_2": spade.discriminator_names(networks.image_discriminator_2),
    }


def real_pair(case: Case):
    """Labels uint8 [N,1,H,W] and images [N,3,H,W]."""
    return case.input("seg").argmax(1, keepdim=True).to(torch.uint8), case.input("image")


def noise_of(case: Case, descent: str) -> dict:
    """What the case draws for the generators ("G") or the discriminators ("D")."""
    mix = case.mix() if descent == "D" else None
    drawn = {"z": case.input(f"z{descent}"), "exponential": case.input(f"noise{descent}"), "mix": mix}
    return drawn | {"style": None, "encoder": None}


def check_gradients(case: Case, prefix: str, loss, networks: Networks):
    """Outputs PREFIXNETWORK.KEY: norms of this loss's gradients, 0 where it does not reach."""
    for name, names in names_of(networks).items():
        keys = set(case.outputs(f"{prefix}{name}."))
        parameters = {key: p for key, p in getattr(networks, name).named_parameters() if keys & set(names[key])}
        if not keys:
            continue
        found = torch.autograd.grad(loss, parameters.values(), retain_graph=True, materialize_grads=True)
        found = by_released_name(dict(zip(parameters, found, strict=True)), names)
        for key in keys:
            case.check(f"{prefix}{name}.{key}", norm(found[key]))


def check_buffers(case: Case, networks: Networks):
    for name, names in names_of(networks).items():
        found = by_released_name(getattr(networks, name).state_dict(), names)
        for key in case.outputs(f"after.{name}."):
            case.check(f"after.{name}.{key}", found[key])


@pytest.mark.usefixtures("one_hot_in_float64")
def test_generator_losses(networks):
    case = Case64("e2e_generator_losses")
    config = settings(case)
    noise = noise_of(case, "G")
    with torch.no_grad():
        case.check("sampled_onehot", sample_layouts(networks.layout_generator(noise["z"]), noise, config))
    losses = by_published_term(generator_terms(networks, config, *real_pair(case), noise), GENERATOR_TERMS)
    case.check("loss.total", sum(losses.values()))
    for name, loss in losses.items():
        case.check(f"loss.{name}", loss)
        check_gradients(case, f"gradnorm.{name}.", loss, networks)
    check_buffers(case, networks)
    case.finish()


@pytest.mark.usefixtures("one_hot_in_float64")
def test_discriminator_losses(networks):
    case = Case64("e2e_discriminator_losses")
    terms = discriminator_terms(networks, settings(case), *real_pair(case), noise_of(case, "D"))
    losses = by_published_term(terms, DISCRIMINATOR_TERMS)
    total = sum(losses.values())
    case.check("loss.total", total)
    for name, loss in losses.items():
        case.check(f"loss.{name}", loss)
    check_gradients(case, "gradnorm.total.", total, networks)
    check_buffers(case, networks)
    case.finish()


@pytest.mark.usefixtures("one_hot_in_float64")
def test_losses_of_the_second_discriminators_pretraining(networks):
    case = Case64("e2e_D2_pretraining_losses")
    labels, images = real_pair(case)
    terms = pretraining_terms(networks, images, {"z": case.input("zP"), "style": None})
    case.check("loss.D_Fake_fff", terms["fake_generated"])
    case.check("loss.D_real", terms["real_generated"])
    with torch.no_grad():
        networks.spade_generator(labels)  # the published code draws this image, too, and throws it away
    check_buffers(case, networks)
    case.finish()


@pytest.mark.usefixtures("one_hot_in_float64")
def test_a_full_step(networks):
    case = Case64("e2e_full_step")
    config = settings(case)
    joint_stage.set_modes(networks, config)
    before = {name: [p.detach().clone() for p in network.parameters()] for name, network in networks.saved().items()}
    optimizers = joint_stage.make_optimizers(networks, config)
    for optimizer, rate, _ in optimizers.values():
        set_learning_rate(optimizer, rate)
    generators = [optimizers[name][0] for name in ("layout_generator", "spade_generator")]
    discriminators = ("layout_discriminator", "image_discriminator", "image_discriminator_2")
    batch = *real_pair(case), noise_of(case, "G")

    with frozen(*(getattr(networks, name) for name in discriminators)):
        terms = descend(partial(generator_terms, networks, config), micro_batches(0, *batch), *generators)
    for name, loss in by_published_term(terms, GENERATOR_TERMS).items():
        case.check(f"first.G.{name}", loss)

    second = micro_batches(0, *real_pair(case), noise_of(case, "D"))
    of_discriminators = [optimizers[name][0] for name in discriminators]
    terms = descend(partial(discriminator_terms, networks, config), second, *of_discriminators)
    for name, loss in by_published_term(terms, DISCRIMINATOR_TERMS).items():
        case.check(f"first.D.{name}", loss)

    for name, network in networks.saved().items():
        changes = [norm(p.detach() - old) for p, old in zip(network.parameters(), before[name], strict=True)]
        case.check(f"update_norm.{name}", torch.stack(changes).norm())
    with torch.no_grad():
        probabilities = networks.layout_generator(batch[-1]["z"]).exp()
        case.check("second.layout_probabilities", probabilities)
        case.check("second.layout_probabilities_mean", probabilities.mean((0, 2, 3)))
        terms = generator_terms(networks, config, *batch)
    for name, loss in by_published_term(terms, GENERATOR_TERMS).items():
        case.check(f"second.G.{name}", loss)
    case.finish()


CLASSES = 5


@pytest.fixture
def generators():
    torch.manual_seed(0)
    return LayoutGenerator(CLASSES, 2, 16, 8, fmap_max=8), SPADEGenerator(CLASSES, 32, 64, 4, 5, 8)


def layout_gradients(generators, layout_grad):
    """Gradients of a function of the image at the layouts and at the layout generator's parameters."""
    layout_generator, spade_generator = generators
    spade_generator.eval()  # the same power iterations for every call
    layout_generator.zero_grad()
    torch.manual_seed(1)
    layouts = straight_through(layout_generator(torch.randn(2, 8)))
    layouts.retain_grad()
    image = images_of(spade_generator, layouts, {"style": None}, layout_grad)
    (image * torch.linspace(-1, 1, image.numel()).view_as(image)).sum().backward()
    return layouts, {name: p.grad.clone() for name, p in layout_generator.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("layout_grad", ["stem", "full"])
def test_the_gradient_reaches_every_block_of_the_layout_generator(generators, layout_grad):
    _, gradients = layout_gradients(generators, layout_grad)
    assert all(gradients[f"blocks.{i}.conv2.weight"].abs().max() > 0 for i in range(3))


def test_stem_touches_sampled_pixels_alone_and_full_touches_all(generators):
    stem = layout_gradients(generators, "stem")[0].grad
    full = layout_gradients(generators, "full")[0].grad
    # The stem sees the 16x32 layout at 1x2: nearest samples of pixel (0, 0) and (0, 16).
    seen = torch.zeros(16, 32, dtype=torch.bool)
    seen[0, 0] = seen[0, 16] = True
    assert torch.equal(stem.abs().sum((0, 1)) > 0, seen)
    assert (full.abs().sum((0, 1)) > 0).float().mean() > 0.9


def test_full_and_stem_differ_in_the_gradient_but_not_in_the_image(generators):
    of_stem, of_full = (layout_gradients(generators, way)[1] for way in ("stem", "full"))
    assert any((of_stem[k] - of_full[k]).abs().max() > 0.1 * of_stem[k].abs().max() for k in of_stem)
    layouts = one_hot(torch.randint(0, CLASSES, (2, 1, 16, 32), dtype=torch.uint8), CLASSES)
    spade_generator = generators[1].eval()
    of_stem, of_full = (images_of(spade_generator, layouts, {"style": None}, way) for way in ("stem", "full"))
    assert torch.allclose(of_stem, of_full)


def test_full_is_the_gradient_of_the_network_as_a_function_of_soft_layouts(generators):
    """Central differences of the image along a direction in the (real-valued) semantics, in float64."""
    spade_generator = generators[1].double().eval()
    semantics = torch.rand(1, CLASSES, 16, 32, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((spade_generator(semantics) * weights).sum(), semantics)
    direction, step = torch.randn_like(semantics), 1e-6
    with torch.no_grad():
        ahead, behind = ((spade_generator(semantics + s * direction) * weights).sum() for s in (step, -step))
    assert torch.isclose((gradient * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-5)


def test_labels_and_their_one_hot_give_one_image(generators):
    spade_generator = generators[1].eval()
    labels = torch.randint(0, CLASSES, (2, 1, 32, 64), dtype=torch.uint8)
    assert torch.allclose(spade_generator(labels), spade_generator(one_hot(labels, CLASSES)), atol=1e-6)
    assert torch.equal(argmax(one_hot(labels, CLASSES)), labels)


def test_the_likeliest_classes_are_drawn_with_the_gradient_of_the_probabilities():
    torch.manual_seed(2)
    scores = torch.randn(2, CLASSES, 4, 8, dtype=torch.float64, requires_grad=True)
    sampled, config = straight_through(scores.log_softmax(1)), SimpleNamespace(temperature=0.5, drawn_layouts="argmax")
    drawn = layouts_to_draw(scores.log_softmax(1), sampled, config)
    assert torch.equal(argmax(drawn), scores.argmax(1, keepdim=True).byte()) and not torch.equal(drawn, sampled)
    weights = torch.randn_like(drawn)
    (found,) = torch.autograd.grad((drawn * weights).sum(), scores)
    (wanted,) = torch.autograd.grad(((scores / 0.5).softmax(1) * weights).sum(), scores)
    torch.testing.assert_close(found, wanted)
    config.drawn_layouts = "sampled"
    assert layouts_to_draw(scores, sampled, config) is sampled
