"""Steps: what is not finite leaves no trace but a count, and a batch in parts gives the gradients of the whole."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from datasets.errors import UserError
from SBGAN import joint_stage, layout_stage
from SBGAN.discretize import straight_through
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.train_finetune_end2end import FinetuneSettings
from SPADE import losses as image_losses
from SPADE.engine.step import MOST_IN_A_ROW, Guard, adam, descend, micro_batches
from SPADE.engine.step import adam as fused_adam
from SPADE.modulation import SPADENorm, SpectralConv2d, initialise
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder
from tests.runs import curves, train

WHOLE = [(1.0, [])]  # a batch in one part, which the terms have at hand


class Network(torch.nn.Module):
    """Has buffers of both kinds: spectral vectors and running moments."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = SpectralConv2d(3, 4, 3), SPADENorm(4, num_classes=2, hidden=3)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y, torch.ones_like(y[:, :2]))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return initialise(Network())


@pytest.fixture
def guard(network):
    return Guard([network], {}, SimpleNamespace(last_good="weights/x/spade_3.pt"))


def adam_of(network):
    return fused_adam(network.parameters(), 0.999, lr=0.1)


def step(network, optimizer, guard, factor):
    """One step on images of which one pixel is multiplied by the factor."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x[0, 0, 0, 0] *= factor

    def terms(x):
        y = network(x)
        return {"a": y.square().mean(), "b": y.mean() * 2}

    losses = descend(terms, [(1.0, [x])], optimizer, guard=guard, kind="generator/")
    if guard:
        guard.read()
    return losses


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_bad_step_changes_neither_weights_nor_buffers_nor_optimiser(network, guard, factor):
    optimizer = adam_of(network)
    step(network, optimizer, guard, 1.0)
    before = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
    step(network, optimizer, guard, factor)
    for key, value in before[0].items():
        assert torch.equal(network.state_dict()[key], value), key
    for i, entry in before[1]["state"].items():
        for key, value in entry.items():
            assert torch.equal(optimizer.state_dict()["state"][i][key], value)
    assert guard.skipped == {"generator/a": 1, "generator/b": 1}


def test_afterwards_all_is_as_if_it_had_not_been(network, guard):
    other = copy.deepcopy(network)
    optimizer, other_optimizer = adam_of(network), adam_of(other)
    for factor in (1.0, float("nan"), 2.0):
        step(network, optimizer, guard, factor)
    for factor in (1.0, 2.0):
        step(other, other_optimizer, None, factor)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values()))  # noqa: B905


def test_a_bad_gradient_of_a_finite_loss(network, guard):
    weight = network.conv.weight
    before = weight.detach().clone()
    descend(lambda: {"root": (weight * 0).abs().sqrt().sum()}, WHOLE, adam_of(network), guard=guard, kind="generator/")
    guard.read()
    assert guard.skipped == {"generator/gradient": 1} and torch.equal(weight, before)


def test_the_term_is_named(network, guard):
    terms = {"good": network.conv.weight.sum(), "bad": network.conv.weight.sum() / 0}
    descend(lambda: terms, WHOLE, adam_of(network), guard=guard, kind="discriminator/")
    guard.read()
    assert guard.skipped == {"discriminator/bad": 1}


def test_twenty_in_a_row_end_the_run_but_no_fewer(network, guard):
    optimizer = adam_of(network)
    for _ in range(2):
        for _ in range(MOST_IN_A_ROW - 1):
            step(network, optimizer, guard, float("nan"))
        step(network, optimizer, guard, 1.0)
    for _ in range(MOST_IN_A_ROW - 1):
        step(network, optimizer, guard, float("nan"))
    with pytest.raises(UserError, match="generator/a.*weights/x/spade_3.pt"):
        step(network, optimizer, guard, float("nan"))
    assert MOST_IN_A_ROW == 20 and guard.skipped["generator/a"] == 58


CLASSES, BATCH = 5, 8


def gradients(terms, batch, size, networks, *trained):
    """Of one descent in parts of `size`, and the losses; the networks' buffers are put back."""
    before = [buffer.clone() for network in networks for buffer in network.buffers()]
    guard = Guard(networks, {}, SimpleNamespace(last_good=None))
    optimizer = adam([p for network in trained for p in network.parameters()], 0.9, lr=0.0)
    losses = descend(terms, micro_batches(size, *batch), optimizer, guard=guard)
    after = [p.grad.clone() for network in trained for p in network.parameters() if p.grad is not None]
    for buffer, old in zip((b for network in networks for b in network.buffers()), before, strict=True):
        buffer.copy_(old)
    return after, losses


@pytest.fixture
def layout_networks():
    torch.manual_seed(0)
    layout = {"aspect": 2, "max_resolution": 8, "fmap_max": 8}
    return LayoutGenerator(CLASSES, latent_dim=6, **layout), ProgressiveDiscriminator(CLASSES, **layout)


def check(whole, parts):
    largest = max(gradient.abs().max() for gradient in whole[0])  # some cancel to nothing but rounding
    for one, other in zip(whole[0], parts[0], strict=True):
        assert (one - other).abs().max() <= 1e-5 * largest
    assert whole[1].keys() == parts[1].keys()
    for name, value in whole[1].items():
        assert torch.allclose(value, parts[1][name], rtol=1e-5, atol=1e-6), name


def test_layout_gan(layout_networks):
    generator, discriminator = layout_networks
    domain = SimpleNamespace(
        sample=lambda scores, noise: straight_through(scores, exponential=noise), statistics=lambda scores: {}
    )
    noise = torch.rand(BATCH, CLASSES, 8, 16).add(0.1)
    z, mix = torch.randn(BATCH, 6), torch.rand(BATCH)
    real = torch.eye(CLASSES)[torch.randint(CLASSES, (BATCH, 8, 16))].permute(0, 3, 1, 2)
    at = 8, 0.5

    def of_generator(z, noise):
        return layout_stage.generator_terms(generator, discriminator, domain, z, noise, *at)

    def of_discriminator(*batch):
        return layout_stage.discriminator_terms(generator, discriminator, domain, *batch, *at, 10.0)

    for terms, batch, trained in (
        (of_generator, (z, noise), generator),
        (of_discriminator, (real, z, noise, mix), discriminator),
    ):
        # Of minibatch statistics' groups, which are of four.
        check(*(gradients(terms, batch, size, layout_networks, trained) for size in (0, 4)))


@pytest.mark.parametrize("size", [1, 3])
def test_spade_without_batch_statistics(size):
    """The generator in evaluation mode; spectral norm everywhere else, whose power iterations must not multiply."""
    torch.manual_seed(0)
    generator = SPADEGenerator(CLASSES, 32, 64, channels=2, hidden=4, style_dim=3).eval()
    encoder, discriminator = StyleEncoder(2, 3), MultiscaleDiscriminator(CLASSES + 3, 2)
    networks = generator, encoder, discriminator
    labels = torch.randint(CLASSES, (BATCH, 1, 32, 64)).to(torch.uint8)
    batch = labels, torch.rand(BATCH, 3, 32, 64) * 2 - 1, 0.1 * torch.randn(BATCH, 3)

    def of_generator(labels, images, noise):
        weights = image_losses.Weights(kl=0.05 * BATCH)
        return image_losses.generator_losses(generator, discriminator, labels, images, weights, encoder, noise)

    def of_discriminator(labels, images, noise):
        return image_losses.discriminator_losses(generator, discriminator, labels, images, encoder, noise)

    for terms, trained in ((of_generator, (generator, encoder)), (of_discriminator, (discriminator,))):
        whole, parts = (gradients(terms, batch, part, networks, *trained) for part in (0, size))
        check(whole, parts)
        assert any("kl" in name for name in whole[1]) == (terms is of_generator)


def with_noise(spade):
    """Its noise as strong as what it is added to, as it is nowhere at first."""
    for name, strength in spade.named_parameters():
        if "strength" in name:
            torch.nn.init.ones_(strength)
    return spade


def test_joined_without_batch_statistics(layout_networks):
    torch.manual_seed(1)
    spade = with_noise(SPADEGenerator(CLASSES, 32, 64, channels=2, hidden=4, noise=True, moving_noise=True)).eval()
    networks = joint_stage.Networks(
        *layout_networks, spade, MultiscaleDiscriminator(CLASSES + 3, 2), MultiscaleDiscriminator(3, 2)
    )
    config = FinetuneSettings(
        store="", name="", layout_name="", spade_name="", layout_grad="full", augment="translation,cutout"
    )
    batch = torch.randint(CLASSES, (BATCH, 1, 32, 64)).to(torch.uint8), torch.rand(BATCH, 3, 32, 64) * 2 - 1
    noise = joint_stage.draw_noise(networks, BATCH, torch.device("cpu"), ("translation", "cutout"))
    batch = *batch, noise | {"offsets": torch.rand(BATCH, 2)}  # of noise that moves, as in training mode
    nets = list(networks.saved().values())
    for terms, trained in (
        (joint_stage.generator_terms, [networks.layout_generator, spade]),
        (joint_stage.discriminator_terms, [n for n in nets if "Discriminator" in type(n).__name__]),
    ):
        terms = partial(terms, networks, config)
        check(*(gradients(terms, batch, size, nets, *trained) for size in (0, 4)))


def test_samples_of_the_generators_descent_are_those_of_the_same_noise(layout_networks):
    """With `--reuse_fakes` the critics see these."""
    torch.manual_seed(1)
    spade = with_noise(SPADEGenerator(CLASSES, 32, 64, channels=2, hidden=4, noise=True, moving_noise=True)).eval()
    critics = MultiscaleDiscriminator(CLASSES + 3, 2).eval(), MultiscaleDiscriminator(3, 2).eval()
    networks = joint_stage.Networks(*layout_networks, spade, *critics)
    config = FinetuneSettings(store="", name="", layout_name="", spade_name="")
    batch = torch.randint(CLASSES, (BATCH, 1, 32, 64)).to(torch.uint8), torch.rand(BATCH, 3, 32, 64) * 2 - 1
    noise = joint_stage.draw_noise(networks, BATCH, torch.device("cpu")) | {"offsets": torch.rand(BATCH, 2)}
    batch, kept = (*batch, noise), []
    joint_stage.generator_terms(networks, config, *batch, kept=kept)
    anew = joint_stage.discriminator_terms(networks, config, *batch)
    for generator in (layout_networks[0], spade):
        generator.forward = None  # is not asked again
    reused = joint_stage.discriminator_terms(networks, config, *batch, ready=kept[0])
    assert reused.keys() == anew.keys()
    for name, value in anew.items():
        torch.testing.assert_close(reused[name], value, msg=name)


def test_the_command_accumulates(toy_store, tmp_path):
    """Stage 1: the first step's losses are those of the whole batch, later ones drift apart by rounding alone."""
    for name, flags in (("whole", []), ("parts", ["--micro_batch", "4"])):
        status, output = train("layout", toy_store, tmp_path / name, *flags)
        assert status == 0 and "in a step at most" in output
    whole, parts = (curves("layout", tmp_path / name) for name in ("whole", "parts"))
    for tag in ("generator/wgan", "discriminator/wgan", "discriminator/gradient_penalty", "generator/layout_entropy"):
        assert parts[tag][0] == pytest.approx(whole[tag][0], rel=1e-5), tag
