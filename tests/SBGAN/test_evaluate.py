"""Scores of every kind of checkpoint, through the command; two processes give those of one."""

import json

import pytest
import torch

from datasets.packed import open_store
from datasets.reader import in_order
from SBGAN import evaluate
from SBGAN.evaluation import scenes
from SBGAN.evaluation.scenes import fid_released, imagenet_inception, score_scenes, soft_scenes
from SBGAN.model import load
from SPADE.evaluation.features import Extractor
from SPADE.evaluation.metrics import Evaluation
from SPADE.evaluation.scores import append_record, reference_layouts, score_floor
from tests.runs import MAIN, arguments, curves
from tests.SPADE.engine.test_distributed import on_two


def run(path, folder, *flags):
    common = ["--checkpoint", path, "--results", folder, "--num_eval", 8, "--device", "cpu"]
    evaluate.main([str(word) for word in (*common, *flags)])
    (written,) = (folder / path.parent.name).glob(f"{path.stem}*/scores.json")
    return json.loads(written.read_text())


def test_the_joined_model(untrained, network, tmp_path, capsys):
    path = untrained.joined()
    record = run(path, tmp_path, "--feature_extractor", network, "--repeats", 2)
    scores = record["scores"]
    assert list(scores) == ["generated", "real layouts", "floor: real against real"]
    for row in scores.values():
        assert {"swd", "fd", "kd", "kd_std", "precision", "recall", "diversity", "protocol", "warning"} <= set(row)
        assert "fid" not in row
    for name in ("copies.png", "contact_sheet.png"):
        assert (tmp_path / "finetune" / path.stem / name).stat().st_size
    assert json.loads((path.parent / "metrics.jsonl").read_text().splitlines()[-1]) == record
    assert "mostly bias" in capsys.readouterr().out

    # The rows are what the evaluation in training calls, on the seeds that follow one another.
    store, model = untrained.store, load(path, device="cpu")
    with pytest.warns(UserWarning):
        sets = [
            score_scenes(
                model.layout_generator,
                model.spade_generator,
                Evaluation(store, "cpu", 8, seed, 32, Extractor(network, standard=False)),
            )
            for seed in (0, 8)
        ]
    values = torch.tensor([row["fd"] for row in sets], dtype=torch.float64)
    assert scores["generated"]["repeats"]["fd"]["values"] == pytest.approx(values.tolist())
    assert scores["generated"]["fd"] == pytest.approx(values.mean().item())
    assert scores["generated"]["repeats"]["fd"]["std"] == pytest.approx(values.std().item())


def test_class_shares(untrained, tmp_path):
    row = run(path := untrained.layout(), tmp_path)["scores"]["generated"]
    layouts = load(path, device="cpu").sample_layouts(range(8))
    real = reference_layouts(untrained.store, 16, 8)
    for i, (name, share) in enumerate(row["classes"].items()):
        assert name == untrained.store.label_space.names[i]
        assert share["generated"] == pytest.approx((layouts == i).double().mean().item())
        assert share["real"] == pytest.approx((real == i).double().mean().item())
        assert share["gained"] == pytest.approx(share["generated"] - share["real"])
    assert row["fsd"] == pytest.approx(scenes.fsd(real, layouts))
    assert "swd" not in row


@pytest.mark.parametrize("stage", ["spade", "image"])
def test_stage_2_and_the_baseline(untrained, tmp_path, stage):
    path = getattr(untrained, stage)()
    scores = run(path, tmp_path, "--no_fid")["scores"]
    assert set(scores) == {"real layouts" if stage == "spade" else "generated", "floor: real against real"}
    first = next(iter(scores.values()))
    assert first["height"] == (32 if stage == "spade" else 16) and first["swd"]["mean"] > 0


def test_stages_1_and_2_as_one(untrained, tmp_path):
    scores = run(untrained.layout(), tmp_path, "--spade_checkpoint", untrained.spade(), "--no_fid")["scores"]
    assert {"fsd", "swd"} <= set(scores["generated"]) and {"fsd", "swd"} <= set(scores["floor: real against real"])


def three_checkpoints(untrained, stage, make, prefix):
    """Of a network, of another one, and of the first with the other as its average."""
    last, average = make(), make()
    named = {"generator": last}, {"generator": average}
    more = {"resolution": 16, "alpha": 1.0, "epoch": 1}
    return (
        untrained.save(stage, f"{prefix}_11.pt", named[0], **more),
        untrained.save(stage, f"{prefix}_12.pt", named[1], **more),
        untrained.save(stage, f"{prefix}_13.pt", named[0], averages=named[1], **more),
    )


@pytest.mark.parametrize("stage", ["layout", "spade", "image"])
def test_averages_or_the_last_weights(untrained, tmp_path, stage):
    full = {"layout": "layout_gan", "spade": "spade", "image": "image_gan"}[stage]
    make = {"layout": untrained.layout_generator, "spade": untrained.spade_generator,
            "image": untrained.image_generator}[stage]  # fmt: skip
    last, average, both = three_checkpoints(untrained, full, make, stage)
    found = {}
    for name, (path, *flags) in {
        "last": (last,), "last without averages": (last, "--no_ema"), "average": (average,), "both": (both,),
        "both without averages": (both, "--no_ema"),
    }.items():  # fmt: skip
        record = run(path, tmp_path, "--no_fid", "--no_copy_check", *flags)
        found[name] = record["scores"], record["checkpoints"][full]["weights"]
    assert found["both"] == (found["average"][0], "average")
    assert found["last"][1] == "last" and found["last"][0] != found["average"][0]
    assert found["both without averages"] == found["last without averages"] == found["last"]


def test_equal_sets_score_as_equal(toy_store):
    # With both splits one and the same the floor is 0, whatever the measure.
    store = open_store(toy_store)
    store.splits["train"] = store.splits["val"]
    row = score_floor(Evaluation(store, "cpu", 8, height=32), layout_height=16)
    assert row["fsd"] == pytest.approx(0, abs=1e-9) and row["swd"]["mean"] == 0 and row["pixels_displaced"] == 0


def test_fid_released_on_soft_maps_and_shifted_images(untrained, tmp_path):
    """Against the same computation written out: torchvision's network, hooks for its last pooled features, NumPy."""
    import numpy as np
    import torch.nn.functional as F

    from datasets.reader import in_order
    from SPADE.engine.images import latents
    from SPADE.pretrained import torchvision

    torch.manual_seed(0)
    inception = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=False).eval()
    for layer in inception.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    torch.save(inception.state_dict(), tmp_path / "random.pth")
    model = load(untrained.joined(), device="cpu")
    evaluation = Evaluation(untrained.store, "cpu", 3, height=32)
    got = fid_released(soft_scenes(model), imagenet_inception(tmp_path / "random.pth", "cpu"), evaluation)

    pooled = []
    inception.avgpool.register_forward_hook(lambda module, inputs, output: pooled.append(output.flatten().numpy()))

    def features(images):
        pooled.clear()
        for image in images:
            inception(F.interpolate(image[None], (299, 299), mode="bilinear", align_corners=False) * 2 - 1)
        return np.stack(pooled).astype(np.float64)

    with torch.no_grad():
        layouts, spade = model.layout_generator.eval(), model.spade_generator.eval()
        soft = [F.interpolate(layouts(latents([i], 8, "cpu")).exp(), (32, 64)) for i in range(3)]
        fake = features([spade(maps)[0] for maps in soft])
        flips = torch.rand(3, generator=torch.Generator().manual_seed(0)) < 0.5
        real = in_order(untrained.store["val"], 0, 3)[0]
        real = [image.flip(2) if flip else image for image, flip in zip(real, flips, strict=True)]
        known = features([image / 127.5 - 1 for image in real])
    a, b = np.cov(fake.T), np.cov(known.T)
    values = np.linalg.eigvals((known - known.mean(0)) @ (fake - fake.mean(0)).T @ (fake - fake.mean(0))
                               @ (known - known.mean(0)).T / 4)  # fmt: skip
    root = np.sqrt(np.maximum(values.real, 0)).sum()
    wanted = np.square(fake.mean(0) - known.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * root
    assert got == pytest.approx(wanted, rel=1e-3)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(word) for word in (*arguments, "--device", "cpu", "--num_eval", 8)])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ")
    return line


def test_a_score_that_a_stage_alone_has_not(untrained, tmp_path, capsys):
    for path in (untrained.layout(), untrained.spade()):
        line = refused(capsys, "--checkpoint", path, "--results", tmp_path / "results", "--fid_released", "--no_fid")
        assert "--fid_released is given" in line and not (tmp_path / "results").exists()


def test_results_that_cannot_be_written(untrained, tmp_path, capsys):
    (tmp_path / "layout_gan").write_text("a file where a folder should be")
    line = refused(capsys, "--checkpoint", untrained.layout(), "--results", tmp_path)
    assert "layout_gan/layout_1 cannot be written" in line


def test_a_line_follows_one_that_was_torn(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"time": "20')
    append_record({"time": 1}, tmp_path)
    append_record({"time": 2}, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == ['{"time": "20', '{"time": 1}', '{"time": 2}']


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--num_eval", "1"], "--num_eval is 1"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--seed", str(2**63 - 4)], "--seed"),
        (["--feature_extractor", "/no/such file"], "/no/such file"),
        (["--store", "/no/such store"], "/no/such store"),
        (["--checkpoint", "/no/such.pt"], "/no/such.pt"),
        (["--fid_released", "--released_weights", "/no/such.pth"], "/no/such.pth"),
    ],
)
def test_bad_input(untrained, tmp_path, capsys, flags, words):
    path = untrained.joined()
    common = ["--checkpoint", str(path), "--results", str(tmp_path / "results"), "--device", "cpu", "--num_eval", "8"]
    with pytest.raises(SystemExit) as stop:
        evaluate.main([*common, *flags])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ") and words in line
    assert not (tmp_path / "results").exists()


class Red(torch.nn.Module):
    """Ids from the red channel."""

    def forward(self, images):
        return images[:, 0].long() % 11


def test_alignment_and_gan_test(untrained, tmp_path, capsys):
    torch.jit.script(Red()).save(str(tmp_path / "red.pt"))
    flags = ["--no_fid", "--no_copy_check", "--segmenter", tmp_path / "red.pt"]
    record = run(path := untrained.joined(), tmp_path, *flags)
    scores, names = record["scores"], untrained.store.label_space.names
    assert list(scores) == ["generated", "real layouts", "real pairs of val", "floor: real against real"]
    assert record["segmenter"]["file"].endswith("red.pt") and "miou" not in scores["floor: real against real"]
    assert "miou" in capsys.readouterr().out

    model = load(path, device="cpu")
    real_images, real = in_order(untrained.store["val"], 0, 8)
    layouts, images = model.sample(range(8))
    pairs = {
        "generated": (images, layouts),
        "real layouts": (model.render(real, range(8)), real),
        "real pairs of val": (real_images, real),
    }
    for row, (shown, given) in pairs.items():
        given = given.repeat_interleave(32 // given.shape[2], 2).repeat_interleave(64 // given.shape[3], 3)
        found = shown[:, :1] % 11
        assert scores[row]["accuracy"] == pytest.approx((found == given).double().mean().item())
        ious = {
            i: ((found == i) & (given == i)).sum().item() / ((found == i) | (given == i)).sum().item()
            for i in given.unique().tolist()
        }
        assert {names.index(name): v for name, v in scores[row]["iou"].items() if v is not None} == pytest.approx(ious)
        assert scores[row]["miou"] == pytest.approx(sum(ious.values()) / len(ious))


def test_a_segmenter_has_nothing_to_see(untrained, tmp_path, capsys):
    torch.jit.script(Red()).save(str(tmp_path / "red.pt"))
    with pytest.raises(SystemExit):
        run(untrained.layout(), tmp_path, "--segmenter", tmp_path / "red.pt")
    assert "--segmenter is given, but must be left out for a checkpoint without pairs" in capsys.readouterr().err


SCORED = ["--num_eval", "8", "--no_fid"]


def test_stage_2_alone(untrained, tmp_path):
    path = untrained.spade()
    at = ["--weights", str(path.parents[1]), "--name", "spade", "--results", str(tmp_path), "--device", "cpu"]
    evaluate.main([*at, *SCORED])
    record = json.loads((tmp_path / "spade/scores.json").read_text())
    assert set(record["scores"]) == {"real layouts", "floor: real against real"}
    split = untrained.store["val"]
    assert record["scores"]["real layouts"]["real_images"] == len(in_order(split, 0, 8)[0]) == 8
    assert (tmp_path / "spade/contact_sheet.png").stat().st_size


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("stage", ["joined", "layout", "image", "spade"])
def test_two_processes_give_the_scores_of_one(untrained, network, tmp_path, monkeypatch, stage):
    path = getattr(untrained, stage)()
    flags = ["--device", "cpu", "--num_eval", "40", "--feature_extractor", str(network), "--repeats", "2"]
    named = ["--checkpoint", str(path)]
    if stage == "spade":
        named = ["--weights", str(path.parents[1]), "--name", "spade"]
    records = []
    for count in ("two", "one"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / count))  # nobody finds the other's features
        arguments = [*named, *flags, "--results", str(tmp_path / count)]
        assert on_two(evaluate.main, arguments) == [0, 0] if count == "two" else evaluate.main(arguments) is None
        (written,) = (tmp_path / count / path.parent.name).rglob("scores.json")
        records.append(json.loads(written.read_text()))
        records[-1].pop("time")
    assert records[0] == records[1] and len(records[0]["scores"]) > 1
    lines = (path.parent / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["scores"] for line in lines[-2:]] == [records[0]["scores"]] * 2  # one line for each


@pytest.mark.usefixtures("winograd_everywhere")
def test_training_logs_the_scores_that_evaluating_its_checkpoint_gives(toy_store, network, tmp_path):
    row = {}
    for stage, name, more in (
        ("layout", "generated", []),
        ("spade", "real layouts", ["--feature_extractor", network]),
        ("finetune", "generated", ["--feature_extractor", network]),
    ):
        assert on_two(MAIN[stage], arguments(stage, toy_store, tmp_path, "--num_eval", 24, *more)) == [0, 0]
        (path,) = (tmp_path / "weights" / stage).glob("*.pt")
        results = ["--results", str(tmp_path / "results"), "--device", "cpu", "--no_copy_check"]
        flags = ["--num_eval", "24", "--feature_extractor", str(network)]
        evaluate.main(["--checkpoint", str(path), *results, *flags])
        scores = json.loads((tmp_path / "results" / stage / path.stem / "scores.json").read_text())["scores"]
        row[stage] = scores[name]
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        assert "images_seen" not in lines[-1] and name in lines[-2]["scores"]
        assert all(row == scores[key] for key, row in lines[-2]["scores"].items())
        logged = curves(stage, tmp_path)
        prefix = {"layout": "", "spade": "score_real_layouts/", "finetune": "score_generated/"}[stage]
        for key in ("fsd", "fsd_grid", "fd", "kd", "precision", "diversity"):
            if key in row[stage]:
                assert logged[prefix + key][-1][1] == pytest.approx(row[stage][key], rel=1e-6), (stage, key)
    assert "fsd" in row["layout"] and "fd" in row["spade"] and {"fsd", "fd"} <= set(row["finetune"])
