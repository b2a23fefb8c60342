"""Stage 3's losses, gradients, passes and updates against numbers of the published code.

In float64, for the reason given in test_reference_spade.py.
"""

from functools import partial

import pytest
import torch

import SPADE.losses
import SPADE.modulation
from datasets.labels import one_hot
from SBGAN import joint_stage
from SBGAN.discretize import RELEASED_FLOOR
from SBGAN.joint_stage import Networks, discriminator_terms, generator_terms, pretraining_terms, sample_layouts
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


@pytest.fixture(autouse=True)
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
