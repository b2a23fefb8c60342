"""The RGB baseline through its programs."""

import json

import torch

from datasets.packed import open_store
from datasets.reader import Reader
from SBGAN import train_progressive
from SBGAN.model import draw_images
from SBGAN.networks import ImageGenerator
from SBGAN.train_progressive import image_domain
from SBGAN.train_progressive_seg import LayoutSettings
from SPADE.engine import checkpoint
from SPADE.evaluation.metrics import Evaluation
from tests.SBGAN.conftest import BASELINE, places, refused


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


def test_what_it_leaves(baseline):
    # 16 images in batches of 8; 5 phases: 4, and fade and stabilise of 8 and of 16 rows
    content = checkpoint.load(baseline / "weights/toy_image/image_10.pt", "image_gan")
    generator = checkpoint.rebuild(ImageGenerator, content["networks"]["generator"])
    assert draw_images(generator, range(3)).shape == (3, 3, 16, 32)
    record = json.loads((baseline / "results/toy_image/scores.json").read_text())
    assert record["scores"]["generated"]["swd"]["mean"] > 0
    assert set(record["checkpoints"]) == {"image_gan"}
    for name in ("contact_sheet.png", "copies.png"):
        assert (baseline / "results/toy_image" / name).stat().st_size


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


def test_flags_of_the_layouts_sampler(toy_store, tmp_path, capsys):
    line = refused(capsys, train_progressive.main, [*places(toy_store, tmp_path, "n"), *BASELINE, "--floor", "1e-5"])
    assert "--floor is 1e-05" in line and not any(tmp_path.iterdir())


def record(**scores):
    row = {"height": 32, "swd": {"mean": 5.0}}
    rows = {name: {**row, "fid_released": value} for name, value in scores.items()}
    common = {"counts": {"generated": 8}, "seed": 0}
    return {"data": {"name": "cityscapes"}, **common, "scores": rows}
