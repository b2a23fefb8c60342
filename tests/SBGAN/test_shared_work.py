"""What several processes score and draw together is what one does alone, to the bit."""

import json
import os

import pytest
import torch

from SBGAN import evaluate, generate
from SPADE.engine import distributed
from tests.runs import MAIN, arguments, curves
from tests.SBGAN.test_processes import on_two

pytestmark = pytest.mark.usefixtures("winograd_everywhere")


def deal_out(num, path):
    distributed.start(torch.device("cpu"))

    def function(numbers):
        ranks = torch.full((len(numbers),), distributed.rank())
        return {"squares": torch.tensor([i * i for i in numbers]), "rank": ranks}

    rows = distributed.shared_out(function, num)
    assert (rows is None) == (distributed.rank() == 1)
    if rows:
        torch.save(rows, path)


@pytest.mark.parametrize("num, of_the_second", [(5, 0), (37, 16)], ids=["one batch", "three batches"])
def test_rows_are_in_order_and_everybody_has_work(tmp_path, num, of_the_second):
    assert on_two(deal_out, num, tmp_path / "rows") == [0, 0]
    rows = torch.load(tmp_path / "rows")
    assert rows["squares"].tolist() == [i * i for i in range(num)] and rows["rank"].sum() == of_the_second
    alone = distributed.shared_out(lambda numbers: {"numbers": torch.tensor(numbers)}, num)
    assert alone["numbers"].tolist() == list(range(num))


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


@pytest.mark.parametrize("more", [[], ["--where", "sky>0.001"]], ids=["all", "some"])
def test_two_processes_draw_the_files_of_one(untrained, tmp_path, more):
    common = ["--checkpoint", str(untrained.joined(style=True, name="finetune_4.pt")), "--device", "cpu"]
    common += ["--num", "14", "--batch_size", "4", "--seed", "3", *more]
    assert on_two(generate.main, [*common, "--out", str(tmp_path / "two")]) == [0, 0]
    generate.main([*common, "--out", str(tmp_path / "one")])
    files = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.png")}
    assert files == {p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*.png")}
    assert len(files) == 4 * 14 or more
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("more", [["--grid", "2x2"], ["--interpolate", "2", "--frames", "2"]], ids=["grid", "walk"])
def test_one_of_two_processes_draws_the_picture(untrained, tmp_path, more):
    common = ["--checkpoint", str(untrained.joined(name="finetune_5.pt")), "--device", "cpu", "--out"]
    assert on_two(generate.main, [*common, str(tmp_path / "out"), *more]) == [0, 0]
    assert sorted(os.listdir(tmp_path / "out")) == ["about.json", "grid.png" if "--grid" in more else "walk.webp"]
