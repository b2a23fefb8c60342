"""The RGB baseline through its programs, stage 2's test, and the paper's table out of what they write."""

import json

import pytest
import torch

from datasets.packed import open_store
from datasets.reader import Reader, in_order
from SBGAN import compare, evaluate, train_progressive
from SBGAN.model import draw_images
from SBGAN.networks import ImageGenerator
from SBGAN.train_progressive import image_domain
from SBGAN.train_progressive_seg import LayoutSettings
from SPADE.engine import checkpoint
from SPADE.evaluation.metrics import Evaluation

TINY = ["--no_fid", "--max_dim", "16", "--epochs", "1", "--batch_size", "8", "--fmap_max", "8", "--latent_dim", "8"]
SCORED = ["--num_eval", "8", "--no_fid"]


def places(store, folder, name):
    return ["--store", str(store), "--weights", str(folder / "weights"), "--name", name, "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(toy_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    logs = ["--logs", str(folder / "logs")]
    train_progressive.main([*places(toy_store, folder, "toy_image"), *logs, *TINY, "--num_eval", "8"])
    evaluate.main([*places(toy_store, folder, "toy_image"), "--results", str(folder / "results"), *SCORED])
    return folder


class Means(torch.nn.Module):
    def forward(self, images):
        return images.float().mean((2, 3))  # uint8 [N,3,H,W] -> [N,3]


def test_a_feature_network_is_asked_at_the_finest_resolution_alone(toy_store, tmp_path):
    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    flags = ["--logs", str(tmp_path / "logs"), "--feature_extractor", str(tmp_path / "means.pt"), "--num_eval", "16"]
    flags += ["--max_dim", "32", "--epochs", "1", "--batch_size", "16", "--fmap_max", "4", "--latent_dim", "4"]
    train_progressive.main([*places(toy_store, tmp_path, "scored"), *flags])
    lines = (tmp_path / "weights/scored/metrics.jsonl").read_text().splitlines()
    rows = {(record["resolution"], "fd" in record["scores"]["generated"]) for record in map(json.loads, lines)}
    assert rows == {(16, False), (32, True)}


def test_what_it_leaves(trained):
    # 16 images in batches of 8; 5 phases: 4, and fade and stabilise of 8 and of 16 rows
    content = checkpoint.load(trained / "weights/toy_image/image_10.pt", "image_gan")
    generator = checkpoint.rebuild(ImageGenerator, content["networks"]["generator"])
    assert draw_images(generator, range(3)).shape == (3, 3, 16, 32)
    record = json.loads((trained / "results/toy_image/scores.json").read_text())
    assert record["scores"]["generated"]["swd"]["mean"] > 0
    assert set(record["checkpoints"]) == {"image_gan"}
    for name in ("contact_sheet.png", "copies.png"):
        assert (trained / "results/toy_image" / name).stat().st_size


def test_real_images_are_averages_over_blocks(toy_store):
    store = open_store(toy_store)
    config = LayoutSettings(store=str(toy_store), name="n", seed=3)
    real = image_domain(config, store, "cpu", evaluation=None).real(8, 4, 8)
    images, _ = Reader(store["train"], 3).pairs(8, 4)
    wanted = images.double().unflatten(3, (16, 4)).unflatten(2, (8, 4)).mean((3, 5)) / 127.5 - 1
    assert torch.allclose(real.double(), wanted, atol=1e-6)


def test_scores_while_it_trains(toy_store, tmp_path):
    store = open_store(toy_store)
    config = LayoutSettings(store=str(toy_store), weights=str(tmp_path), name="n", num_eval=8)
    domain = image_domain(config, store, "cpu", Evaluation(store, "cpu", 8, height=32))
    generator = ImageGenerator(3, 2, 32, 8, fmap_max=8)
    assert domain.evaluate(generator, 8, 0.5, 1) == {}  # SWD has no level below 16 rows
    assert {"swd", "swd_16", "diversity"} <= set(domain.evaluate(generator, 16, 0.5, 96))
    record = json.loads((tmp_path / "n/metrics.jsonl").read_text())
    assert (record["images_seen"], record["resolution"], record["alpha"]) == (96, 16, 0.5)


def refused(capsys, main, arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ")
    return line


def test_flags_of_the_layouts_sampler(toy_store, tmp_path, capsys):
    line = refused(capsys, train_progressive.main, [*places(toy_store, tmp_path, "n"), *TINY, "--floor", "1e-5"])
    assert "--floor is 1e-05" in line and not any(tmp_path.iterdir())


def test_stage_2_alone(untrained, tmp_path):
    path = untrained.spade()
    at = ["--weights", str(path.parents[1]), "--name", "spade", "--results", str(tmp_path), "--device", "cpu"]
    evaluate.main([*at, *SCORED])
    record = json.loads((tmp_path / "spade/scores.json").read_text())
    assert set(record["scores"]) == {"real layouts", "floor: real against real"}
    split = untrained.store["val"]
    assert record["scores"]["real layouts"]["real_images"] == len(in_order(split, 0, 8)[0]) == 8
    assert (tmp_path / "spade/contact_sheet.png").stat().st_size


def record(**scores):
    row = {"height": 32, "swd": {"mean": 5.0}}
    rows = {name: {**row, "fid_released": value} for name, value in scores.items()}
    common = {"counts": {"generated": 8}, "seed": 0}
    return {"data": {"name": "cityscapes"}, **common, "scores": rows}


def joined_record():
    rows = record(**{"generated, before fine-tuning": 70.5, "generated, fine-tuned": 60.25})
    rows["scores"]["floor: real against real"] = {"height": 32, "swd": {"mean": 1.5}}
    return rows


def test_the_papers_table():
    lines = compare.comparison({"image": record(generated=90.125), "finetune": joined_record()}).splitlines()
    assert lines[0].split() == ["published", "swd", "fid_released"]
    cells = {line[:28].strip(): line[28:].split() for line in lines[1:]}
    assert cells["ProGAN"] == ["5", "90.12"] and cells["SB-GAN without fine-tuning"] == ["5", "70.5"]
    assert cells["SB-GAN"] == ["65.49", "5", "60.25"] and cells["floor: real against real"] == ["1.5"]


def test_runs_that_do_not_compare(trained, tmp_path, capsys):
    other = {**joined_record(), "counts": {"generated": 500}}
    for ending, found in (("image", record(generated=1.0)), ("finetune", other)):
        (tmp_path / f"n_{ending}").mkdir()
        (tmp_path / f"n_{ending}/scores.json").write_text(json.dumps(found))
    assert "different counts" in refused(capsys, compare.main, ["--results", tmp_path, "--name", "n"])
    line = refused(capsys, compare.main, ["--results", trained / "results", "--name", "toy"])
    assert "toy_finetune/scores.json" in line
