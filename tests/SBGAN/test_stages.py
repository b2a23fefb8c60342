"""The three stages and the test, a few steps each, through their real entry points."""

import json

import pytest
import torch

from SBGAN import test_finetune_end2end, train_finetune_end2end, train_progressive_seg
from SPADE import train as train_spade
from SPADE.engine import checkpoint

LAYOUT = ["--max_dim", "8", "--epochs", "1", "--batch_size", "8", "--fmap_max", "8", "--latent_dim", "8"]
SPADE = ["--batch_size", "8", "--niter", "1", "--niter_decay", "1", "--ngf", "2", "--ndf", "2", "--hidden", "4"]
SPADE += ["--no_vgg_loss", "--num_eval", "8", "--no_fid", "--log_every", "1"]
JOINED = ["--batch_size", "8", "--niter", "1", "--niter_decay", "1", "--no_vgg_loss", "--num_eval", "8", "--no_fid"]
JOINED += ["--layout_name", "layout", "--spade_name", "spade", "--log_every", "1"]


def places(store, folder, name):
    return ["--store", str(store), "--weights", str(folder / "weights"), "--name", name, "--device", "cpu"]


def logged(folder, name):
    return [*places(*folder, name), "--logs", str(folder[1] / "logs")]


@pytest.fixture(scope="module")
def trained(toy_store, tmp_path_factory):
    """Folder in which the stages have been run."""
    folder = tmp_path_factory.mktemp("run of all stages")
    at = (toy_store, folder)
    train_progressive_seg.main([*logged(at, "layout"), *LAYOUT, "--num_eval", "8"])
    train_spade.main([*logged(at, "spade"), *SPADE])
    train_finetune_end2end.main([*logged(at, "finetune"), *JOINED])
    return folder


def test_checkpoints_are_named_by_iteration_and_epoch(trained):
    files = {str(path.relative_to(trained / "weights")) for path in (trained / "weights").rglob("*.pt")}
    # 16 images in batches of 8: 3 phases of 2 iterations; 2 epochs; 2 epochs after D2's own
    assert files == {"layout/layout_6.pt", "spade/spade_2.pt", "finetune/finetune_2.pt"}


def test_a_checkpoint_alone_rebuilds_its_networks(trained):
    from SBGAN.model import load_joined

    model = load_joined(trained / "weights/finetune/finetune_2.pt", "cpu")
    assert model.label_space.num_classes == model.spade_generator.num_classes
    assert model.layout_generator(torch.zeros(1, 8)).shape == (1, model.label_space.num_classes, 8, 16)


def test_every_loss_is_logged_by_name(trained):
    wanted = {
        "layout": {"generator/wgan", "discriminator/wgan", "discriminator/gradient_penalty", "generator/layout_entropy",
                   "alpha"},
        "spade": {"generator/gan", "generator/feature_matching", "discriminator/real", "learning_rate/generator"},
        "finetune": {"generator/layout_wgan", "generator/gan_generated", "generator/feature_matching_real_layout",
                     "discriminator/layout_gradient_penalty", "discriminator/fake_generated"},
    }  # fmt: skip
    for name, tags in wanted.items():
        assert tags | {"images_per_second"} <= scalar_tags(trained / "logs" / name), name


def scalar_tags(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = folder.iterdir()
    return set(EventAccumulator(str(run)).Reload().Tags()["scalars"])


def test_scores_and_pictures(trained, toy_store):
    at = places(toy_store, trained, "finetune")
    test_finetune_end2end.main([*at, "--results", str(trained / "results"), "--num_eval", "8", "--no_fid"])
    record = json.loads((trained / "results/finetune/scores.json").read_text())
    assert {"swd", "fsd", "fsd_grid"} <= set(record["scores"]["generated, fine-tuned"])
    assert "generated, before fine-tuning" in record["scores"] and "floor: real against real" in record["scores"]
    assert record["fid_left_out"] and record["counts"]["generated"] == 8
    assert (trained / "results/finetune/contact_sheet.png").stat().st_size > 0
    lines = (trained / "weights/finetune/metrics.jsonl").read_text().splitlines()
    within, after = map(json.loads, lines)  # of the evaluation at the training's end, and of this one
    assert within["images_seen"] == 48 and set(within["scores"]) == {"generated", "real layouts"}
    assert after == record


def weights_of(path):
    networks = checkpoint.load(path, "finetune")["networks"]
    return {f"{name}.{key}": value for name, entry in networks.items() for key, value in entry["state"].items()}


@pytest.mark.parametrize("frozen, flag", [("layout", "--no_train_layout"), ("spade", "--no_train_spade")])
def test_a_frozen_generator_stays_as_it_was_bit_for_bit(trained, toy_store, tmp_path, frozen, flag):
    (tmp_path / "weights").mkdir()
    for name in ("layout", "spade"):
        (tmp_path / "weights" / name).symlink_to(trained / "weights" / name)
    train_finetune_end2end.main([*logged((toy_store, tmp_path), "one"), *JOINED, flag])
    after = weights_of(tmp_path / "weights/one/finetune_2.pt")
    stage, other = {"layout": ("layout_gan", "spade"), "spade": ("spade", "layout_gan")}[frozen]
    before = checkpoint.load(next((tmp_path / "weights" / frozen).glob("*.pt")), stage)["networks"]["generator"]
    for key, value in before["average"].items():  # stage 3 starts from what stages 1 and 2 are scored by
        assert torch.equal(after[f"{frozen}_generator.{key}"], value), key
    other_name = {"layout_gan": "layout", "spade": "spade"}[other]
    moved = checkpoint.load(next((tmp_path / "weights" / other_name).glob("*.pt")), other)["networks"]["generator"]
    assert any(not torch.equal(after[f"{other_name}_generator.{k}"], v) for k, v in moved["average"].items())


def test_stage_3_of_a_generator_with_styles(trained, toy_store, tmp_path):
    """Its pictures of real layouts have the styles of the real images, as stage 2's have."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/layout").symlink_to(trained / "weights/layout")
    at = (toy_store, tmp_path)
    train_spade.main([*logged(at, "spade"), *SPADE, "--use_vae", "--style_dim", "4"])
    train_finetune_end2end.main([*logged(at, "finetune"), *JOINED])
    assert any(name.startswith("encoder.") for name in weights_of(tmp_path / "weights/finetune/finetune_2.pt"))


def test_the_same_seed_gives_the_same_weights(trained, toy_store, tmp_path):
    train_progressive_seg.main([*logged((toy_store, tmp_path), "layout"), *LAYOUT, "--num_eval", "8"])
    one, other = (
        checkpoint.load(folder / "weights/layout/layout_6.pt", "layout_gan")["networks"]["generator"]["state"]
        for folder in (trained, tmp_path)
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
