"""A released layout GAN: its misfits are named, and what is imported ends where it had grown to."""

import json

import pytest
import torch

from datasets.errors import UserError
from SBGAN import import_released, load
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.released import progressive
from SPADE.engine import checkpoint
from tests.reference.cases import Case, by_released_name
from tests.SBGAN.released import networks as released


def discriminator(case: Case):
    weights = case.released_state("discriminator")
    network = ProgressiveDiscriminator(**progressive.discriminator_arguments(weights, case.config["aspect_ratio"]))
    network.load_state_dict(progressive.discriminator_state(weights))
    assert network.max_resolution == case.config["max_dim"]
    assert sum(p.numel() for p in network.parameters()) == case.network("discriminator")["parameters"]
    return network


def test_misfits_are_named_key_by_key():
    case = Case("layout_D_a")
    weights = {key: torch.empty(shape, device="meta") for key, shape, _ in case.spec("discriminator")}
    assert len(progressive.discriminator_state(weights)) == len(weights)

    weights["blocks.0.conv3.weight"] = weights.pop("blocks.0.conv1.weight")
    weights["blocks.3.fc3.bias"] = torch.empty(2, device="meta")
    with pytest.raises(UserError) as error:
        progressive.discriminator_state(weights)
    assert "blocks.0.conv3.weight is unknown" in str(error.value)
    assert "blocks.0.conv1.weight is missing" in str(error.value)
    assert "blocks.3.fc3.bias has shape [2], wanted [1]" in str(error.value)

    with pytest.raises(UserError, match="no tensor found for blocks.0.conv2.weight"):
        progressive.generator_state({})


def test_widths_below_the_cap_are_read_off_the_shapes():
    network = LayoutGenerator(6, aspect=2, max_resolution=64, latent_dim=24, fmap_base=128, fmap_max=32)
    weights = by_released_name(network.state_dict(), progressive.generator_names(network, "mask"))
    assert progressive.generator_arguments(weights) == {**network.arguments, "pixel_norm": "mean_square"}

    network = ProgressiveDiscriminator(3, aspect=2, max_resolution=64, fmap_base=128, fmap_max=32)
    weights = by_released_name(network.state_dict(), progressive.discriminator_names(network, "rgb"))
    assert progressive.discriminator_arguments(weights, aspect=2) == {**network.arguments, "minibatch_stats": False}


CLASSES = 5


@pytest.fixture
def table(tmp_path):
    entries = [{"train_id": i, "name": f"c{i}", "colour": [i, 0, 0], "raw_ids": [i]} for i in range(CLASSES)]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"name": "own", "classes": entries}))
    return path


def run(table, content, folder, *flags, height=256):
    torch.save(content, folder / "100000.pth")
    out, size = folder / "out.pt", ["--label_space", table, "--height", height, "--width", 2 * height]
    words = ["--layout", folder / "100000.pth", "--out", out, "--overwrite", *size, *flags]
    import_released.main([str(word) for word in words])
    return out


def in_double(state):
    return {key: tensor.double() for key, tensor in state.items()}


def refused(capsys, *arguments, **more):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, **more)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ")
    return line


@torch.no_grad()
@pytest.mark.parametrize(
    ("rows", "phase"), [(4, "stabilize"), (16, "fade"), (128, "stabilize"), (128, "fade"), (256, "stabilize")]
)
def test_networks_end_where_they_have_grown_to(table, tmp_path, rows, phase):
    """The released code draws without a blend, whatever the phase."""
    torch.manual_seed(rows)
    content = released.released_file(CLASSES, 256, rows, 2, phase)
    path = run(table, content, tmp_path, height=max(rows, 32))
    z = torch.randn(2, released.LATENT).double()
    network = load(path, device="cpu").layout_generator.double()
    assert network.max_resolution == rows
    probabilities = released.generate(in_double(content["G_state_dict"]), z, rows, 2)
    assert (network(z).exp() - probabilities).abs().max() < 1e-6
    saved = checkpoint.load(path, "layout_gan")
    critic = checkpoint.rebuild(ProgressiveDiscriminator, saved["networks"]["discriminator"]).double()
    scores = released.judge(in_double(content["D_state_dict"]), probabilities, 256, 2)
    assert torch.allclose(critic(probabilities), scores, rtol=1e-6)
    assert saved["resolution"] == rows and saved["alpha"] == (phase == "stabilize")


@torch.no_grad()
def test_the_published_code_at_a_lower_resolution(tmp_path):
    case = Case("layout_G_b")  # of 32 rows, of the classes of Cityscapes
    content = {"phase": "stabilize", "G_state_dict": case.released_state("generator"), "dim": 8}
    network = load(run("cityscapes", content, tmp_path, height=32), device="cpu").layout_generator
    case.check("forward_res8", network(case.input("z")).exp())


def spade_of(classes, folder):
    """A released SPADE generator of so many classes: one of more, without the rest."""
    state = Case("spade_G_a").released_state("generator")
    state = {k: t[:, :classes] if k.endswith(("mlp_shared.0.weight", "fc.weight")) else t for k, t in state.items()}
    torch.save(state, folder / "net_G.pth")
    return ["--generator", folder / "net_G.pth", "--upsampling", "normal"]


def test_stage_3_takes_what_is_finished_alone(table, tmp_path, capsys):
    spade = spade_of(CLASSES, tmp_path)
    finished, fading = (released.released_file(CLASSES, 64, 32, 2, phase) for phase in ("stabilize", "fade"))
    path = run(table, finished, tmp_path, *spade, height=64)
    assert load(path, device="cpu").layout_generator.max_resolution == 32
    line = refused(capsys, table, fading, tmp_path, *spade, height=64)
    assert "--layout is" in line and "middle of stage 1 (the fade to 32 rows)" in line
    of_spade = ["--label_space", table, "--height", 64, "--width", 128, "--out", tmp_path / "spade.pt"]
    import_released.main([str(word) for word in (*spade, *of_spade)])
    path = run(table, fading, tmp_path, height=64)
    with pytest.raises(Exception, match="middle of stage 1"):
        load(path, tmp_path / "spade.pt", device="cpu")


@pytest.mark.parametrize("rows", [0, 24, 128, "64", True])
def test_a_height_that_it_has_no_blocks_for(table, tmp_path, capsys, rows):
    content = released.released_file(CLASSES, 64, 64, 2, "stabilize") | {"dim": rows}
    line = refused(capsys, table, content, tmp_path)
    assert "100000.pth has grown to" in line and "4, 8, 16, 32, 64" in line


def test_a_block_that_was_never_trained_where_nothing_is_said(table, tmp_path, capsys):
    state = released.generator_state(CLASSES, 64, 2)
    run(table, state, tmp_path)
    state = {key: torch.zeros_like(t) if key.startswith("blocks.4.") and key.endswith("bias") else t
             for key, t in state.items()}  # fmt: skip
    assert "block of 64 rows was never trained" in refused(capsys, table, state, tmp_path)
