"""The average against its closed form, and against the network that it should be."""

import torch

from SPADE.engine import checkpoint, state
from SPADE.modulation import SpectralConv2d, initialise
from SPADE.networks import SPADEGenerator


def test_a_constant_target_is_approached_by_half_in_a_half_life():
    network = torch.nn.Linear(3, 3)
    average = state.averaged_copy(network)
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(1.0)
        for p in average.parameters():
            p.fill_(0.0)
    for _ in range(25):  # 25 steps of 4 images are the half-life of 100
        state.update_average(average, network, state.average_decay(4, images_seen=10**9, half_life=100))
    for p in average.parameters():
        torch.testing.assert_close(p, torch.full_like(p, 0.5))


def test_the_same_images_in_larger_batches_weigh_the_same():
    assert abs(state.average_decay(4, 10**9, 100) ** 2 - state.average_decay(8, 10**9, 100)) < 1e-12


def test_at_first_the_half_life_is_a_twentieth_of_the_images_seen():
    assert state.average_decay(5, 100, 10_000) == 0.5
    assert state.average_decay(5, 0, 10_000) == 0.0


def test_spectral_vectors_follow_the_average():
    torch.manual_seed(0)
    layer = initialise(torch.nn.Sequential(SpectralConv2d(6, 8, 3)))
    average = state.averaged_copy(layer)
    with torch.no_grad():
        layer[0].weight.copy_(torch.randn_like(layer[0].weight))  # far away, other singular vectors
    for _ in range(100):
        state.update_average(average, layer, 0.9)
    weight = average[0].weight.flatten(1)
    sigma = average[0].u @ weight @ average[0].v
    torch.testing.assert_close(sigma, torch.linalg.matrix_norm(weight, 2), rtol=1e-3, atol=0)


def test_running_statistics_of_the_average_are_those_of_its_weights():
    """A layer whose weights move along a line: the average's statistics, true and kept, and the last network's."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4, affine=False))
    average = state.averaged_copy(network)
    x = torch.randn(256, 3, 8, 8) + 1
    start, direction = network[0].weight.detach().clone(), 0.3 * torch.randn(4, 3, 1, 1)
    with torch.no_grad():
        for i in range(300):
            network[0].weight.copy_(start + direction * i / 300)
            network(x)
            state.update_average(average, network, 0.98 if i else 0.0)
        y = average[0](x)
    true = y.mean((0, 2, 3))
    kept, last = average[1].running_mean, network[1].running_mean
    assert (kept - true).abs().max() < 0.3 * (last - true).abs().max()


def test_a_network_that_does_not_move_is_its_average_to_the_bit():
    torch.manual_seed(0)
    network = SPADEGenerator(5, 32, 64, channels=2, hidden=4)
    average = state.averaged_copy(network)
    state.update_average(average, network, 0.7)
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_checkpoint_gives_the_average_unless_asked_not_to():
    network = SPADEGenerator(5, 32, 64, channels=2, hidden=4)
    average = state.averaged_copy(network)
    with torch.no_grad():
        average.to_rgb.bias.fill_(7.0)
    entry = checkpoint.record(network, average)
    assert checkpoint.rebuild(SPADEGenerator, entry).to_rgb.bias[0] == 7
    assert checkpoint.rebuild(SPADEGenerator, entry, averaged=False).to_rgb.bias[0] == 0
    assert checkpoint.rebuild(SPADEGenerator, checkpoint.record(network)).to_rgb.bias[0] == 0
