"""The page of a run: it stands alone, holds the run's numbers, and opens in a browser."""

import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from SBGAN import evaluate, report
from SBGAN.report import MOST_POINTS, chart, thin, ticks
from SPADE.engine.log import RunLog


@pytest.fixture(scope="module")
def run(untrained, tmp_path_factory):
    """A run's folders: two evaluations, curves and pictures of training."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "weights/my <run>/finetune_2.pt"
    path.parent.mkdir(parents=True)
    shutil.copy(untrained.joined(), path)
    settings = {"name": "my <run>", "lr": 0.125, "logs": str(folder / "logs")}
    (path.parent / "config.json").write_text(json.dumps(settings))
    flags = ["--checkpoint", str(path), "--results", str(folder / "results"), "--device", "cpu", "--no_fid"]
    evaluate.main([*flags, "--num_eval", "8"])
    evaluate.main([*flags, "--num_eval", "8", "--repeats", "2"])
    with RunLog(folder / "logs/my <run>") as log:
        for step in range(0, 2000, 100):
            log.scalars({"generator/layout_wgan": step / 7, "score_generated/fsd": 1 / (1 + step)}, step)
            log.scalars({"images_per_second": float("nan") if step == 300 else 12.0}, step)
        for step in range(8):
            log.picture("generated_and_real", torch.full((3, 20, 30), 30 * step, dtype=torch.uint8), 100 * step)
    report.main([str(path.parent), "--results", str(folder / "results")])
    return folder


def page(run):
    return (run / "weights/my <run>/report.html").read_text()


def test_it_stands_alone(run):
    text = page(run)
    assert "http" not in re.sub(r'"data:[^"]*"', "", text) and "<script" not in text and "<link" not in text
    assert "my &lt;run&gt;" in text and "my <run>" not in text


def test_it_holds_the_runs_numbers(run):
    text = page(run)
    record = json.loads((run / "results/my <run>/finetune_2/scores.json").read_text())
    for row in record["scores"].values():
        assert f"<td>{row['swd']['mean']:.4g}</td>" in text
    for name in ("generator/layout_wgan", "score_generated/fsd", "images_per_second", "Copy check", "0.125"):
        assert name in text
    for name, share in record["scores"]["generated"]["classes"].items():
        assert f"<td>{name}</td><td>{100 * share['real']:.2f} %</td>" in text
    assert "over all" not in text and text.count("<tr><td>2") == 2  # a line for each evaluation


def test_pictures_are_whole_and_spread_over_time(run):
    pictures = [Image.open(io.BytesIO(base64.b64decode(p))) for p in re.findall(r"base64,([^\"]+)", page(run))]
    shades = [np.asarray(p.convert("RGB")).mean() for p in pictures if p.size == (30, 20)]
    assert shades == [210, 150, 120, 60, 0]  # 7, 5, 4, 2, 0: the newest first
    assert len(pictures) == 5 + 2  # and the samples and the copy check of the evaluation


def test_it_opens_in_a_browser(run, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    shutil.copy(run / "weights/my <run>/report.html", tmp_path / "page.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,3000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}"]
    done = subprocess.run([browser, *flags, (tmp_path / "page.html").as_uri()], capture_output=True, timeout=60)
    if done.returncode and not (tmp_path / "page.png").is_file():
        pytest.skip("Chromium does not start here")
    screen = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert screen.shape == (3000, 1280, 3)
    curve = (abs(screen - (0x19, 0x65, 0xB0)).sum(2) < 30).sum()  # the first curve's colour
    assert curve > 200 and (screen.max(2) - screen.min(2) > 60).mean() > 0.01  # curves, pictures
    assert (screen == 255).all(2).mean() < 0.97


def test_a_run_that_was_never_scored(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    report.main([str(tmp_path / "run"), "--logs", str(tmp_path / "none")])
    assert "not been evaluated" in (tmp_path / "run/report.html").read_text()
    for flags in ([str(tmp_path)], [str(tmp_path / "run"), "--out", str(tmp_path / "run/config.json")], []):
        with pytest.raises(SystemExit) as stop:
            report.main(flags)
        assert stop.value.code == 2 and capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "run/config.json").read_text() == "{}"


def test_ticks_are_round():
    assert ticks(0, 10) == pytest.approx([0, 2, 4, 6, 8, 10]) or ticks(0, 10) == pytest.approx([0, 5, 10])
    assert ticks(-0.031, 0.012) == pytest.approx([-0.03, -0.02, -0.01, 0, 0.01])


def test_thinned_curves_keep_their_mean():
    points = [(x, float(x % 10)) for x in range(10 * MOST_POINTS)]
    kept = thin(points)
    assert len(kept) == MOST_POINTS and all(y == 4.5 for _, y in kept) and kept[-1][0] == points[-1][0]
    assert chart("nothing finite", {"a": [(0, float("nan"))]}) == ""


def test_evaluations_within_a_training_that_went_back(tmp_path):
    lines = [{"images_seen": 8}, {"images_seen": 16}, {"time": "of a checkpoint"}, {"images_seen": 16, "again": True}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    records = report.read_records(tmp_path)
    assert records == [lines[0], lines[2], lines[3]]
    assert report.last_of(records) == lines[2] and report.last_of(records[:1]) == lines[0]


def test_iou_of_each_class():
    record = {
        "scores": {
            "generated": {"iou": {"road": 0.5, "sky": None}},
            "floor": {},
            "real layouts": {"iou": {"road": 1.0, "sky": 0.25}},
        }
    }
    (text,) = report.iou_sections(record)
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", text)
    assert cells == ["", "generated", "real layouts", "road", "0.5", "1", "sky", "", "0.25"]
    assert report.iou_sections({"scores": {"floor": {}}}) == []
