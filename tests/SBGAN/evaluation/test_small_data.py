"""Ten pictures, or fewer: what can't be scored is left out with a reason, and nothing stops."""

import json

import pytest
import torch

from datasets import prepare
from datasets.packed import open_store
from SBGAN import evaluate, report, train_finetune_end2end, train_progressive_seg
from SBGAN.networks import ImageGenerator
from SPADE import train as train_spade
from tests.SBGAN.conftest import Untrained
from tests.SBGAN.test_stages import JOINED, LAYOUT, SPADE


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
