"""Scores of what is drawn from noise: layouts, scenes, or the baseline's images."""

import statistics
from dataclasses import replace

from SBGAN.drawing.sample import draw_layouts
from SBGAN.evaluation import layout_metrics  # noqa: F401 (registers the scores of layouts)
from SPADE.engine.images import render
from SPADE.evaluation.metrics import Evaluation
from SPADE.evaluation.record import COLUMNS
from SPADE.evaluation.scores import against_reference, draw_from_noise


def score_layouts(generator, evaluation: Evaluation, resolution=None, alpha: float = 1.0) -> dict:
    """Layouts from noise against the reference split's."""

    def draw(seeds):
        return {"layouts": draw_layouts(generator, seeds, resolution, alpha)}

    return against_reference(draw_from_noise(draw, evaluation), evaluation)


def score_scenes(layout_generator, spade_generator, evaluation: Evaluation) -> dict:
    """Layouts from noise and their images against the reference split's."""

    def draw(seeds):
        layouts = draw_layouts(layout_generator, seeds)
        return {"layouts": layouts, "images": render(spade_generator, layouts, seeds)}

    return against_reference(draw_from_noise(draw, evaluation), evaluation)


def score_sets(score, sets: int, evaluation: Evaluation) -> tuple[dict, dict | None]:
    """The mean row of so many sets of samples, each upon the seeds that follow the last one's; the first set's samples.

    score: evaluation -> row, samples.
    """
    seeds = [evaluation.seed + k * evaluation.num for k in range(sets)]
    row, samples = score(replace(evaluation, seed=seeds[0]))
    rows = [row, *(score(replace(evaluation, seed=seed))[0] for seed in seeds[1:])]
    return (mean_row(rows) if sets > 1 else row), samples


def mean_row(rows: list[dict]) -> dict:
    """Scores of several sets of samples as one row: means, and under "repeats" every value and the deviation."""
    row = dict(rows[0])
    repeats = {}
    for name in COLUMNS:
        if name in row and name != "diversity_of_real":
            values = [r[name]["mean"] if name == "swd" else r[name] for r in rows]
            repeats[name] = {"mean": statistics.mean(values), "std": statistics.stdev(values), "values": values}
            row[name] = statistics.mean(values)
    if "swd" in row:
        row["swd"] = {level: statistics.mean(r["swd"][level] for r in rows) for level in rows[0]["swd"]}
    return row | {"repeats": repeats}
