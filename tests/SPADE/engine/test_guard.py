"""Losses and gradients that are not finite: the step leaves no trace but a count."""

import copy
from types import SimpleNamespace

import pytest
import torch

from datasets.errors import UserError
from SPADE.engine.step import MOST_IN_A_ROW, Guard, descend
from SPADE.engine.step import adam as fused_adam
from SPADE.modulation import SPADENorm, SpectralConv2d, initialise

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


def adam(network):
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
    optimizer = adam(network)
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
    optimizer, other_optimizer = adam(network), adam(other)
    for factor in (1.0, float("nan"), 2.0):
        step(network, optimizer, guard, factor)
    for factor in (1.0, 2.0):
        step(other, other_optimizer, None, factor)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values()))  # noqa: B905


def test_a_bad_gradient_of_a_finite_loss(network, guard):
    weight = network.conv.weight
    before = weight.detach().clone()
    descend(lambda: {"root": (weight * 0).abs().sqrt().sum()}, WHOLE, adam(network), guard=guard, kind="generator/")
    guard.read()
    assert guard.skipped == {"generator/gradient": 1} and torch.equal(weight, before)


def test_the_term_is_named(network, guard):
    terms = {"good": network.conv.weight.sum(), "bad": network.conv.weight.sum() / 0}
    descend(lambda: terms, WHOLE, adam(network), guard=guard, kind="discriminator/")
    guard.read()
    assert guard.skipped == {"discriminator/bad": 1}


def test_twenty_in_a_row_end_the_run_but_no_fewer(network, guard):
    optimizer = adam(network)
    for _ in range(2):
        for _ in range(MOST_IN_A_ROW - 1):
            step(network, optimizer, guard, float("nan"))
        step(network, optimizer, guard, 1.0)
    for _ in range(MOST_IN_A_ROW - 1):
        step(network, optimizer, guard, float("nan"))
    with pytest.raises(UserError, match="generator/a.*weights/x/spade_3.pt"):
        step(network, optimizer, guard, float("nan"))
    assert MOST_IN_A_ROW == 20 and guard.skipped["generator/a"] == 58
