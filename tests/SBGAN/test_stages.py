"""The three stages and the test, a few steps each, through their real entry points; and of ten pictures, or fewer."""

import json
from dataclasses import replace

import pytest
import torch

from datasets import prepare
from datasets.errors import UserError
from datasets.packed import open_store
from SBGAN import evaluate, report, train_finetune_end2end, train_progressive_seg
from SBGAN.networks import ImageGenerator
from SPADE import train as train_spade
from SPADE.engine import checkpoint
from SPADE.losses import draw_noise
from tests.SBGAN.conftest import Untrained, places

LAYOUT = ["--max_dim", "8", "--epochs", "1", "--batch_size", "8", "--fmap_max", "8", "--latent_dim", "8"]
SPADE = ["--batch_size", "8", "--niter", "1", "--niter_decay", "1", "--ngf", "2", "--ndf", "2", "--hidden", "4"]
SPADE += ["--no_vgg_loss", "--num_eval", "8", "--no_fid", "--log_every", "1"]
JOINED = ["--batch_size", "8", "--niter", "1", "--niter_decay", "1", "--no_vgg_loss", "--num_eval", "8", "--no_fid"]
JOINED += ["--layout_name", "layout", "--spade_name", "spade", "--log_every", "1"]


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
    from SBGAN import load

    model = load(trained / "weights/finetune/finetune_2.pt", device="cpu")
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
    evaluate.main([*at, "--results", str(trained / "results"), "--num_eval", "8", "--no_fid"])
    record = json.loads((trained / "results/finetune/scores.json").read_text())
    assert {"swd", "fsd", "fsd_grid"} <= set(record["scores"]["generated, fine-tuned"])
    assert "generated, before fine-tuning" in record["scores"] and "floor: real against real" in record["scores"]
    assert record["fid_left_out"] and record["counts"]["generated"] == 8
    assert (trained / "results/finetune/contact_sheet.png").stat().st_size > 0
    lines = (trained / "weights/finetune/metrics.jsonl").read_text().splitlines()
    within, after = map(json.loads, lines)  # of the evaluation at the training's end, and of this one
    assert within["images_seen"] == 48 and set(within["scores"]) == {"generated", "real layouts"}
    assert after == record

    path = str(trained / "weights/finetune/finetune_2.pt")
    evaluate.main(["--checkpoint", path, "--results", str(trained / "results"), "--num_eval", "4", "--no_fid"])
    assert json.loads((trained / "results/finetune/scores.json").read_text()) == record  # its own are elsewhere


def weights_of(path):
    networks = checkpoint.load(path, "finetune")["networks"]
    return {f"{name}.{key}": value for name, entry in networks.items() for key, value in entry["state"].items()}


NETWORKS = {  # of stage 3: where they come from
    "layout_generator": ("layout/layout_6.pt", "layout_gan", "generator"),
    "layout_discriminator": ("layout/layout_6.pt", "layout_gan", "discriminator"),
    "spade_generator": ("spade/spade_2.pt", "spade", "generator"),
    "image_discriminator": ("spade/spade_2.pt", "spade", "discriminator"),
}


def begun(trained, tmp_path, *more):
    """Folder with the weights of stages 1 and 2 and a stage 3 of six steps, with a checkpoint after four, too."""
    (tmp_path / "weights").mkdir()
    for name in ("layout", "spade"):
        (tmp_path / "weights" / name).symlink_to(trained / "weights" / name)
    store = json.loads((trained / "weights/spade/config.json").read_text())["store"]
    flags = ["--resume_every", "4", "--save_every", "9", "--evaluate_every", "0", *more]
    train_finetune_end2end.main([*logged((store, tmp_path), "one"), *JOINED, *flags])
    return tmp_path / "weights"


def entries(weights, file):
    """Stage 3's networks, and what they come from: name -> (record here, record there, moments here, moments there)."""
    here = checkpoint.load(weights / "one" / file, "finetune")
    for name, (path, stage, there) in NETWORKS.items():
        before = checkpoint.load(weights / path, stage)
        moments = here["optimizers"][name]["state"], before["optimizers"][there]["state"]
        yield name, here["networks"][name], before["networks"][there], *moments


def same(one: dict, other: dict):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def test_stage_3_begins_where_stages_1_and_2_ended(trained, tmp_path):
    """After D2's own epoch everything but D2 is what it was, to the bit, with all that scores and rates depend on."""
    weights = begun(trained, tmp_path, "--pretrain_epochs", "2", "--niter", "0")
    for name, record, before, moments, moments_before in entries(weights, "finetune_at_32.pt"):
        assert same(record["state"], before["state"]), name
        assert ("average" in record) == ("average" in before) == ("generator" in name)
        assert same(record.get("average", {}), before.get("average", {})), name
        assert moments.keys() == moments_before.keys()
        assert all(same(moments[key], moments_before[key]) for key in moments), name
    joined = checkpoint.load(weights / "one/finetune_at_32.pt", "finetune")
    assert joined["inherited"] == {"layout_generator": 48, "spade_generator": 32}

    from SBGAN import load

    scenes = [
        model.sample(range(4))
        for model in (
            load(weights / "one/finetune_at_32.pt", device="cpu"),
            load(weights / "layout/layout_6.pt", weights / "spade/spade_2.pt", "cpu"),
        )
    ]
    assert all(torch.equal(a, b) for a, b in zip(*scenes, strict=True))


def test_a_rate_of_0_changes_no_weight(trained, tmp_path):
    weights = begun(trained, tmp_path, "--lr", "0", "--lr_pgan", "0")
    for name, record, before, moments, moments_before in entries(weights, "finetune_2.pt"):
        parameters = [key for key in before["state"] if key.rpartition(".")[2] in ("weight", "bias")]
        assert parameters and all(torch.equal(record["state"][key], before["state"][key]) for key in parameters), name
        steps, before = (max(m["step"] for m in found.values()) for found in (moments, moments_before))
        assert steps == before + 4, name  # coarse heads rest: not all have so many


def test_a_warm_d2_begins_as_stage_2s_critic(trained, tmp_path):
    weights = begun(trained, tmp_path, "--lr", "0", "--warm_D2")
    d2 = checkpoint.load(weights / "one/finetune_2.pt", "finetune")["networks"]["image_discriminator_2"]["state"]
    critic = checkpoint.load(weights / "spade/spade_2.pt", "spade")["networks"]["discriminator"]["state"]
    parameters = [key for key in critic if key.rpartition(".")[2] in ("weight", "bias")]
    assert all(torch.equal(d2[key], critic[key][:, -d2[key].shape[1] :] if d2[key].dim() > 1 else critic[key])
               for key in parameters)  # fmt: skip
    assert d2["scales.0.first.weight"].shape[1] == 3


def test_what_the_stages_do_not_have_begins_anew_and_is_named(trained, tmp_path, capsys):
    """As weights of other people do not."""
    for path, stage, _ in set(NETWORKS.values()):
        content = checkpoint.load(trained / "weights" / path, stage)
        for record in content["networks"].values():
            record.pop("average", None)
        del content["optimizers"], content["format"], content["stage"]
        checkpoint.save(tmp_path / "bare/weights" / path, stage, content)
    (tmp_path / "bare/weights/spade/config.json").symlink_to(trained / "weights/spade/config.json")
    (tmp_path / "run").mkdir()
    weights = begun(tmp_path / "bare", tmp_path / "run")
    said = capsys.readouterr().out
    assert all(f"average of {name}" in said for name in ("layout_generator", "spade_generator"))
    assert all(f"moments of {name}" in said for name in NETWORKS)
    content = checkpoint.load(weights / "one/finetune_2.pt", "finetune")
    assert content["inherited"] == {} and "average" in content["networks"]["layout_generator"]


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


def test_r1_is_taken_over_from_stage_1(trained, toy_store, tmp_path):
    flags = ["--loss", "r1", "--penalty_weight", "1"]
    (tmp_path / "weights").mkdir()
    train_progressive_seg.main([*logged((toy_store, tmp_path), "layout"), *LAYOUT, "--num_eval", "8", *flags])
    (tmp_path / "weights/spade").symlink_to(trained / "weights/spade")
    train_finetune_end2end.main([*logged((toy_store, tmp_path), "finetune"), *JOINED, "--log_every", "1"])
    assert json.loads((tmp_path / "weights/finetune/config.json").read_text())["layout_loss"] == "r1"
    for name, prefix in (("layout", ""), ("finetune", "layout_")):
        tags = scalar_tags(tmp_path / "logs" / name)
        assert {f"{kind}/{prefix}logistic" for kind in ("generator", "discriminator")} <= tags, name
        assert not [tag for tag in tags if "wgan" in tag]


def test_larger_first_weights_give_larger_images():
    from SPADE.networks import SPADEGenerator

    torch.manual_seed(0)
    labels = torch.randint(5, (1, 1, 32, 64), dtype=torch.uint8)
    grey, colourful = (SPADEGenerator(5, 32, 64, channels=2, hidden=4, gain=gain)(labels).std() for gain in (0.02, 1.0))
    assert colourful > 5 * grey


def test_moving_noise_needs_noise(toy_store):
    store, config = open_store(toy_store), train_spade.SpadeSettings(store="", name="", batch_size=8, ngf=2, hidden=4)
    for moving in (False, True):
        asked = replace(config, noise=True, move_noise=moving)
        train_spade.check(asked, store)
        generator = train_spade.make_networks(asked, store, "cpu")["generator"]
        offsets = draw_noise(generator, None, 3, "cpu")["offsets"]
        assert offsets.shape == (3, 2) if moving else offsets is None
        assert draw_noise(generator.eval(), None, 3, "cpu")["offsets"] is None  # as in stage 3 where it does not learn
    with pytest.raises(UserError, match="^--move_noise is given without --noise"):
        train_spade.check(replace(config, move_noise=True), store)


def test_a_segmentation_critic_in_stages_2_and_3(trained, toy_store, tmp_path, capsys):
    train_spade.main([*logged((toy_store, tmp_path), "spade"), *SPADE, "--critic", "segmentation"])
    (tmp_path / "weights/layout").symlink_to(trained / "weights/layout")
    with pytest.raises(SystemExit):
        train_finetune_end2end.main([*logged((toy_store, tmp_path), "finetune"), *JOINED, "--warm_D2"])
    assert "--warm_D2 is given beside stage 2's segmentation critic" in capsys.readouterr().err
    train_finetune_end2end.main([*logged((toy_store, tmp_path), "finetune"), *JOINED])
    for name, suffix in (("spade", ""), ("finetune", "_real_layout")):
        tags = scalar_tags(tmp_path / "logs" / name)
        assert f"discriminator/label_mix{suffix}" in tags and f"generator/feature_matching{suffix}" not in tags


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four pairs to train on and one set aside."""
    path = tmp_path_factory.mktemp("small") / "store"
    size = ["--height", "32", "--width", "64", "--num_train", "4", "--num_val", "1", "--workers", "1"]
    prepare.main(["toy_street", "--out", str(path), *size])
    return path


def test_all_stages_and_their_scores(store, tmp_path, capsys):
    weights = ["--weights", str(tmp_path / "weights")]
    common = ["--store", str(store), "--device", "cpu", "--num_eval", "4"]
    logs = [*weights, "--logs", str(tmp_path / "logs"), "--batch_size", "4"]
    train_progressive_seg.main([*LAYOUT, *common, *logs, "--name", "layout"])
    train_spade.main([*SPADE, *common, *logs, "--name", "spade"])
    train_finetune_end2end.main([*JOINED, *common, *logs, "--name", "one"])
    said = capsys.readouterr().out
    assert "fsd is left out of generated: it needs at least 2 layouts on each side, found 1" in said

    results = ["--results", str(tmp_path / "results"), "--no_fid"]
    evaluate.main([*common, *weights, *results, "--name", "one"])
    evaluate.main(["--checkpoint", str(tmp_path / "weights/one/finetune_2.pt"), *common, *results, "--repeats", "2"])
    assert "warning: fsd is left out of generated; floor" in capsys.readouterr().out
    for name in ("scores.json", "finetune_2/scores.json"):
        scores = json.loads((tmp_path / "results/one" / name).read_text())["scores"]
        for row in scores.values():
            assert row["swd"]["mean"] > 0 and "diversity" not in row and "found 1" in row["diversity_left_out"]
        assert all("fsd" not in row and "found 1" in row["fsd_left_out"] for row in scores.values() if "classes" in row)
    report.main([str(tmp_path / "weights/one"), "--results", str(tmp_path / "results")])
    assert "fsd_grid is left out of generated; floor" in (tmp_path / "weights/one/report.html").read_text()


def test_a_baseline_of_four_rows(store, tmp_path):
    """Smaller than a patch of SWD."""
    torch.manual_seed(0)
    untrained = Untrained(store, tmp_path)
    untrained.store = open_store(store)
    path = untrained.save("image_gan", "image_1.pt", {"generator": ImageGenerator(3, 2, 4, 8, fmap_max=8)})
    evaluate.main(["--checkpoint", str(path), "--results", str(tmp_path), "--num_eval", "4", "--no_fid"])
    row = json.loads((tmp_path / "image_gan/image_1/scores.json").read_text())["scores"]["generated"]
    assert row["height"] == 4 and "swd" not in row and "at least 7 pixels on each side, found 4" in row["swd_left_out"]
