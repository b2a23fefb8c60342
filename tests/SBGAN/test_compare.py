"""The paper's table, and the table over seeds against means and deviations found by hand."""

import json

import pytest

from SBGAN import compare
from tests.SBGAN.conftest import refused


def write_scores(folder, name, seed, shift):
    """FSD of row i in seed s is i + s; fine-tuning gains `shift` besides."""
    for i, (row, (ending, place)) in enumerate(compare.ROWS_OF_SEEDS["reproduction"].items()):
        path = folder / f"{name}_seed{seed}_{ending}" / "scores.json"
        path.parent.mkdir(exist_ok=True)
        record = json.loads(path.read_text()) if path.exists() else {"scores": {}}
        value = i + seed - (shift if row == "fine-tuned" else 0)
        record["scores"][place] = {"fsd": value, "swd": {"mean": 10 * value, "64": 1.0}}
        path.write_text(json.dumps(record))


def test_means_deviations_and_paired_differences(tmp_path, capsys):
    for seed, shift in ((0, 1), (1, 2), (2, 6)):
        write_scores(tmp_path, "x", seed, shift)
    compare.main(["--name", "x", "--results", str(tmp_path), "--seeds", "0,1,2"])
    result = json.loads((tmp_path / "x_reproduction.json").read_text())
    assert result["rows"]["control"]["fsd"] == {"mean": 3, "std": 1, "values": [2, 3, 4]}
    # 3 + s - shift is 2, 2, -1; the control is 2 + s: the difference is 0, -1, -5
    assert result["rows"]["fine-tuned"]["swd"]["values"] == [20, 20, -10]
    difference = result["differences"]["fine-tuned - control"]["fsd"]
    assert difference["values"] == [0, -1, -5] and difference["mean"] == -2
    assert abs(difference["std"] - 7**0.5) < 1e-12
    text = (tmp_path / "x_reproduction.md").read_text()
    assert "| control | 3 ± 1 | 30 ± 10 |" in text and "| fine-tuned - control | -2 ± 2.6 |" in text
    assert text.strip() in capsys.readouterr().out


def test_a_missing_score_is_named(tmp_path, capsys):
    write_scores(tmp_path, "x", 0, 0)
    with pytest.raises(SystemExit) as stop:
        compare.main(["--name", "x", "--results", str(tmp_path), "--seeds", "0,1"])
    assert stop.value.code == 2 and "x_seed1_image" in capsys.readouterr().err
    assert not (tmp_path / "x_reproduction.md").exists()


def test_the_verdict_on_generated_layouts(tmp_path, capsys):
    """FSD is lower by 1, 2 and 3, mIoU by less than it spreads."""
    for seed in range(3):
        for ending, fd, miou in (("augment", 7 - seed, 0.5 - 0.1 * (seed == 1)), ("augment_control", 8, 0.45)):
            path = tmp_path / f"x_seed{seed}_{ending}/scores.json"
            path.parent.mkdir()
            rows = {place: {"fd": fd, "miou": miou} for _, place in compare.ROWS_OF_SEEDS["augment"].values()}
            path.write_text(json.dumps({"scores": rows}))
    compare.main(["--name", "x", "--results", str(tmp_path), "--seeds", "0,1,2", "--table", "augment"])
    text = capsys.readouterr().out
    assert "too, changed fd by -2 +- 1 (3 seeds): worth it." in text
    assert "too, changed miou by +0.0167 +- 0.058 (3 seeds): not worth it." in text
    assert text.strip() == (tmp_path / "x_augment.md").read_text().strip()
    worse = {"mean": -1.0, "std": 0.5, "values": [-1.5, -0.5]}
    assert compare.verdict("It", "miou", worse).endswith("harmful.")


def write_trained(folder, run, miou, images_seen=64):
    (folder / "weights" / run).mkdir(parents=True)
    record = {"images_seen": images_seen, "scores": {"real pairs of val": {"miou": miou, "accuracy": 0.5, "iou": {}}}}
    (folder / "weights" / run / "metrics.jsonl").write_text("{}\n" + json.dumps(record) + "\n")


def test_usefulness(tmp_path, capsys):
    for seed in range(2):
        for ending, miou in (("real", 0.5), ("generated", 0.25), ("both", 0.5 + 0.01 * (1 + seed))):
            write_trained(tmp_path, f"x_worth{seed}_{ending}", miou)
        for ending, miou in (("real", 0.25), ("both", 0.375)):
            write_trained(tmp_path, f"x_share0.25_worth{seed}_{ending}", miou)
        rows = {"generated": {"miou": 0.125}, "real layouts": {"miou": 0.75}, "real pairs of val": {"miou": 0.5}}
        path = tmp_path / f"results/x_worth{seed}_scores/finetune/finetune_1/scores.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"scores": rows}))
    places = [
        "--name",
        "x",
        "--results",
        str(tmp_path / "results"),
        "--weights",
        str(tmp_path / "weights"),
        "--table",
        "usefulness",
    ]
    compare.main([*places, "--seeds", "0,1", "--shares", "0.25"])
    result = json.loads((tmp_path / "results/x_usefulness.json").read_text())
    means = {row: scores["miou"]["mean"] for row, scores in result["rows"].items()}
    assert list(means.values()) == [0.5, 0.75, 0.125, 0.25, 0.515, 0.25, 0.375]
    assert result["differences"]["25% of real pairs and generated - 25% of real pairs"]["miou"]["values"] == [0.125] * 2
    text = capsys.readouterr().out
    assert "Adding generated pairs changed miou by +0.015 +- 0.0071 (2 seeds): worth it." in text
    assert "| alignment (images of real layouts) | 0.75 ± 0 |" in text

    write_trained(tmp_path, "x_worth7_real", 0.5, images_seen=65)
    for ending in ("generated", "both"):
        write_trained(tmp_path, f"x_worth7_{ending}", 0.5)
    (tmp_path / "results/x_worth1_scores").rename(tmp_path / "results/x_worth7_scores")
    with pytest.raises(SystemExit):
        compare.main([*places, "--seeds", "0,7"])
    assert "different numbers of images" in capsys.readouterr().err


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


def test_runs_that_do_not_compare(baseline, tmp_path, capsys):
    other = {**joined_record(), "counts": {"generated": 500}}
    for ending, found in (("image", record(generated=1.0)), ("finetune", other)):
        (tmp_path / f"n_{ending}").mkdir()
        (tmp_path / f"n_{ending}/scores.json").write_text(json.dumps(found))
    assert "different counts" in refused(capsys, compare.main, ["--results", tmp_path, "--name", "n"])
    line = refused(capsys, compare.main, ["--results", baseline / "results", "--name", "toy"])
    assert "toy_finetune/scores.json" in line
