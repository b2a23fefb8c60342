"""The table over seeds, against means and deviations found by hand."""

import json

import pytest

from SBGAN import compare


def write_scores(folder, name, seed, shift):
    """FSD of row i in seed s is i + s; fine-tuning gains `shift` besides."""
    for i, (row, (ending, place)) in enumerate(compare.ROWS_OF_SEEDS.items()):
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
