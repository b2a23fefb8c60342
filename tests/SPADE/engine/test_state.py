"""Averages against their closed form; what fits of a trained model is taken, class by class where classes differ."""

import copy
import signal

import pytest
import torch

from datasets import prepare
from datasets.errors import UserError
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.train_progressive_seg import CLASS_AXES
from SPADE.engine import checkpoint, state
from SPADE.engine.state import Source, TrainingState, take
from SPADE.modulation import SpectralConv2d, initialise
from SPADE.networks import MultiscaleDiscriminator, SegmentationCritic, SPADEGenerator
from SPADE.train import class_axes
from tests.runs import SignalAt, differences, final, train


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


HERE, THERE = ["sky", "road", "tram", "void"], ["void", "tree", "road"]
PAIRS = {1: 2, 3: 0}  # road and void, by train id


@pytest.fixture
def seed():
    torch.manual_seed(0)


def source(**networks):
    entries = {name: checkpoint.record(copy.deepcopy(network)) for name, network in networks.items()}
    return Source("old.pt", 800, entries, THERE)


def state_of(**networks):
    return TrainingState(networks, {}, {"generator": copy.deepcopy(networks["generator"])})


def layout_networks(classes, rows=16, fmap_max=8):
    generator = LayoutGenerator(classes, 2, rows, latent_dim=8, fmap_max=fmap_max)
    return {"generator": generator, "discriminator": ProgressiveDiscriminator(classes, 2, rows, fmap_max=fmap_max)}


def spade_networks(classes, style_dim=0, channels=2):
    generator = SPADEGenerator(classes, 32, 64, channels=channels, hidden=4, style_dim=style_dim)
    return {"generator": generator, "discriminator": MultiscaleDiscriminator(classes + 3, 2)}


@pytest.mark.usefixtures("seed")
def test_layout_networks_of_other_classes_and_rows():
    old, new = layout_networks(3, rows=8), layout_networks(4)
    before = copy.deepcopy(new)
    state = state_of(**new)
    report = "\n".join(take(state, source(**old), HERE, CLASS_AXES))
    for i in range(2):
        assert torch.equal(new["generator"].blocks[i].conv2.weight, old["generator"].blocks[i].conv2.weight)
        head, old_head = new["generator"].heads[i], old["generator"].heads[i]
        first, old_first = new["discriminator"].inputs[i], old["discriminator"].inputs[i]
        for mine, theirs in PAIRS.items():
            assert torch.equal(head.weight[mine], old_head.weight[theirs])
            assert torch.equal(head.bias[mine], old_head.bias[theirs])
            assert torch.equal(first.weight[:, mine], old_first.weight[:, theirs])
        assert torch.equal(first.bias, old_first.bias)
        for anew in (0, 2):
            assert torch.equal(head.weight[anew], before["generator"].heads[i].weight[anew])
            assert torch.equal(first.weight[:, anew], before["discriminator"].inputs[i].weight[:, anew])
    assert torch.equal(new["generator"].blocks[2].conv1.weight, before["generator"].blocks[2].conv1.weight)
    for name, tensor in state.averages["generator"].state_dict().items():
        assert torch.equal(tensor, new["generator"].state_dict()[name])
    assert "old.pt, 800 images" in report and "2 of 4 are there by name, new are sky, tram" in report
    assert "max_resolution 16 here, 8 there" in report
    for part in ("generator.blocks.2: 2 of 2", "generator.heads.2: 1 of 1", "discriminator.inputs.2: 1 of 1"):
        assert part in report


@pytest.mark.usefixtures("seed")
def test_a_permuted_table_is_no_hindrance():
    old, new = layout_networks(3), layout_networks(3)
    take(state_of(**new), source(**old), THERE[::-1], CLASS_AXES)
    z = torch.randn(2, 8)
    assert torch.allclose(new["generator"](z).flip(1), old["generator"](z), atol=1e-5)


@pytest.mark.usefixtures("seed")
@torch.no_grad()
def test_spade_of_other_classes_draws_the_same_of_those_it_knows():
    old, new = spade_networks(3), spade_networks(4)
    take(state_of(**new), source(**old), HERE, class_axes(new["generator"]))
    mine = torch.tensor(list(PAIRS), dtype=torch.uint8)[torch.randint(2, (2, 1, 32, 64))]
    theirs = torch.tensor(list(PAIRS.values()), dtype=torch.uint8)[mine.eq(3).long()]
    image = new["generator"].eval()(mine)
    assert torch.allclose(image, old["generator"].eval()(theirs), atol=1e-6)
    one_hots = [torch.eye(n)[layout[:, 0].long()].movedim(3, 1) for n, layout in ((4, mine), (3, theirs))]
    scores = [
        networks["discriminator"].eval()(torch.cat([one_hot, image], 1))
        for networks, one_hot in zip((new, old), one_hots, strict=True)
    ]
    for a, b in zip(sum(scores[0], []), sum(scores[1], []), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.usefixtures("seed")
@torch.no_grad()
def test_a_critic_of_pixels_knows_classes_by_name():
    """Logits of classes and of "fake", up to the spectral norm of the weight that is put together anew."""
    old, new = spade_networks(3), spade_networks(4)
    for networks, classes in ((old, 3), (new, 4)):
        networks["discriminator"] = SegmentationCritic(classes, widths=(4, 4))
    take(state_of(**new), source(**old), HERE, class_axes(new["generator"]))
    mine, theirs = new["discriminator"].last, old["discriminator"].last
    for i, j in {**PAIRS, 4: 3}.items():
        assert torch.equal(mine.weight[i], theirs.weight[j]) and torch.equal(mine.bias[i], theirs.bias[j])
    assert torch.equal(new["discriminator"].down[0].conv_0.weight, old["discriminator"].down[0].conv_0.weight)


def test_a_critic_of_another_kind_is_called_so():
    patch = MultiscaleDiscriminator(6, 2).arguments
    segmentation = SegmentationCritic(3, (4, 4))
    assert state.differing_settings(segmentation, patch) == ["a network of another kind there"]
    fewer = {"num_classes": 2, "widths": (4, 4)}
    assert state.differing_settings(segmentation, fewer) == ["num_classes 3 here, 2 there"]


@pytest.mark.usefixtures("seed")
def test_a_style_is_no_class():
    old, new = spade_networks(3, style_dim=8), spade_networks(4, style_dim=8)
    take(state_of(**new), source(**old), HERE, class_axes(new["generator"]))
    assert torch.equal(new["generator"].stem.weight, old["generator"].stem.weight)


@pytest.mark.usefixtures("seed")
def test_a_layer_that_does_not_fit_begins_anew_as_a_whole():
    old, new = spade_networks(3), spade_networks(3, channels=4)
    old["discriminator"] = MultiscaleDiscriminator(6, 2, strides=(2, 2, 2, 2))
    del old["generator"].arguments["moving_noise"]  # as in older checkpoints
    before = copy.deepcopy(new["generator"].state_dict())
    report = take(state_of(**new), source(**old), THERE, class_axes(new["generator"]))
    for name, tensor in new["generator"].state_dict().items():  # hidden layers of modulations know no width but theirs
        assert torch.equal(tensor, (old["generator"].state_dict() if ".shared." in name else before)[name])
    middle, old_middle = (networks["discriminator"].scales[0].middle[0] for networks in (new, old))
    assert torch.equal(middle.weight, old_middle.weight) and torch.equal(middle.u, old_middle.u)
    assert report[1].startswith("generator: 18 of ") and report[1].endswith("taken; channels 4 here, 2 there")
    groups = ["stem", "head", "mid_0", "mid_1", "ups.0", "ups.1", "ups.2", "ups.3", "to_rgb"]
    assert [line.split(":")[0] for line in report[2:-1]] == [f"generator.{group}" for group in groups]
    assert "weight is [64, 3, 3, 3] here, [32, 3, 3, 3] there" in report[2]
    assert "10 of 10 layers" in report[-1] and "strides (2, 2, 2, 1) here, (2, 2, 2, 2) there" in report[-1]


@pytest.mark.usefixtures("seed")
def test_nothing_in_common_is_an_error():
    with pytest.raises(UserError, match="old.pt fits"):
        new = {"generator": LayoutGenerator(3, 2, 8, latent_dim=8, fmap_max=8)}
        other = LayoutGenerator(3, 1, 4, latent_dim=4, fmap_max=4)
        take(state_of(**new), source(generator=other), ["other", "classes", "only"], CLASS_AXES)


@pytest.fixture(scope="module")
def trained(toy_store, tmp_path_factory):
    """Stages 1 and 2, on scenes of 32x64."""
    folder = tmp_path_factory.mktemp("trained")
    for stage in ("layout", "spade"):
        status, output = train(stage, toy_store, folder)
        assert status == 0, output
    return {"layout": folder / "weights/layout/layout_6.pt", "spade": folder / "weights/spade/spade_2.pt"}


@pytest.fixture(scope="module")
def larger_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("larger") / "64x128"
    sizes = ["--num_train", "16", "--num_val", "8", "--height", "64", "--width", "128"]
    prepare.main(["toy_street", "--out", str(path), *sizes, "--workers", "1"])
    return path


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("stage", ["layout", "spade"])
def test_a_run_begins_there_and_is_continued_without_the_file(stage, trained, larger_store, tmp_path):
    more = {"layout": ["--max_dim", 16], "spade": []}[stage]
    status, output = train(stage, larger_store, tmp_path / "whole", "--from", trained[stage], *more)
    assert status == 0 and f"beginning from {trained[stage]}" in output, output
    copied = tmp_path / f"{stage}_1.pt"
    copied.write_bytes(trained[stage].read_bytes())
    killed = tmp_path / "killed"
    status, output = train(stage, larger_store, killed, "--from", copied, *more, before=SignalAt(signal.SIGTERM, 3))
    assert status == 143, output
    copied.unlink()
    status, output = train(stage, larger_store, killed, "--from", trained[stage], *more)
    assert status == 2 and "error: --from is" in output, output
    status, output = train(stage, larger_store, killed, *more)
    assert status == 0 and "beginning from" not in output, output
    assert differences(final(stage, killed), final(stage, tmp_path / "whole")) == []


@pytest.mark.usefixtures("seed")
def test_what_cannot_be_begun_from(trained, toy_store, tmp_path):
    for path, words in ((tmp_path / "none.pt", "does not exist"), (trained["layout"], "wanted spade")):
        status, output = train("spade", toy_store, tmp_path, "--from", path)
        assert status == 2 and str(path) in output and words in output.splitlines()[-1], output
        assert not list((tmp_path / "weights").rglob("*.pt")) and not list((tmp_path / "weights").rglob("*.json"))
