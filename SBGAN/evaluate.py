r"""python -m SBGAN.evaluate: scores and pictures of any checkpoint; the rows are those of the evaluation in training.

Examples:
    python -m SBGAN.evaluate --checkpoint weights/camvid_finetune/finetune_3.pt
    python -m SBGAN.evaluate --checkpoint weights/camvid_layout/layout_1288.pt \
        --spade_checkpoint weights/camvid_spade/spade_12.pt --repeats 3 --no_fid
"""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datasets.errors import exit_on_user_error
from SBGAN.drawing.sheets import contact_sheet
from SBGAN.evaluation.copies import copies_picture, copy_check, nearest_items
from SBGAN.evaluation.released_fid import add_fid_released, imagenet_inception
from SBGAN.evaluation.scenes import score_sets
from SBGAN.model import Model, assemble, read
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.data import data_record, stored_data
from SPADE.engine.device import keep_freed_memory, pick
from SPADE.engine.distributed import from_first, start
from SPADE.engine.images import save_png
from SPADE.engine.watch import together
from SPADE.evaluation.metrics import Evaluation
from SPADE.evaluation.record import finish, make_record, make_results, warnings_in_the_record, writing_results
from SPADE.evaluation.scores import against_reference, begin, draw_from_noise, score_floor, score_real_layouts
from SPADE.evaluation.segmentation import score_real_pairs, test_split
from SPADE.evaluation.settings import ScoringSettings, check_samples
from SPADE.segmenter import open_segmenter

COPIES = 500  # at most so many samples are looked for in the training data


@dataclass(frozen=True, kw_only=True)
class SceneScoring(ScoringSettings):
    """Flags of every program that scores samples from noise."""

    repeats: int = setting(1, "sets of samples; scores become their mean, beside their standard deviation", at_least=1)
    fid_released: bool = setting(False, "also as the released code did, for the published table alone")
    released_weights: str | None = setting(None, "torchvision's Inception for it; default: cache, else download")
    copy_check: bool = setting(True, "look for the nearest training layouts and images (--no_copy_check: do not)")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(SceneScoring):
    checkpoint: str = setting(help="file of stage 1, 2 or 3, or of the RGB baseline")
    spade_checkpoint: str | None = setting(None, "with one of stage 1: SPADE's of stage 2, and both are scored as one")


def check(config: SceneScoring):
    check_samples(config, sets=config.repeats)


def run(path: Path, config: SceneScoring, folder: Path, spade_path: Path | None = None) -> dict:
    """Scores one checkpoint of any stage, or one of stage 1 with one of stage 2. Returns the record."""
    check(config)
    checkpoints = read(path, spade_path)
    store = stored_data(checkpoints[-1].content, checkpoints[-1].path, config.store)
    device = start(pick(config.device))
    if device.type == "cpu":
        keep_freed_memory()
    model = assemble(checkpoints, device, config.ema)
    with together():
        return evaluate({"": model}, model.files, config, store, folder, weights=path.parent)


@warnings_in_the_record()
def evaluate(models: dict[str, Model], files: dict, config: SceneScoring, store, folder: Path, weights: Path) -> dict:
    """Scores models ("" for a single one, else names) side by side, each kind of row for all of them.

    files: what the record says of their checkpoints; weights: the run's folder, whose metrics.jsonl gets a line.
    """
    # --- What is scored ---
    last = list(models.values())[-1]
    scenes = last.layout_generator and last.spade_generator
    require(scenes or last.image_generator or not config.fid_released, "fid_released", "given",
            "left out for a checkpoint of one stage", "it scores images of generated layouts")  # fmt: skip
    require(not config.segmenter or last.spade_generator, "segmenter", "given",
            "left out for a checkpoint without pairs", "it scores images of layouts")  # fmt: skip
    segmenter = open_segmenter(config, data_record(store), last.device)
    evaluation = begin(config, store, last.device, last.image_height, config.seed)
    evaluation = replace(evaluation, segmenter=segmenter)
    inception = imagenet_inception(config.released_weights, last.device) if config.fid_released else None
    make_results(folder)

    # --- Scores ---
    scores, samples = {}, None
    for name, model in models.items():
        if model.draws:
            score = partial(score_generated, model, inception)
            scores[titled("generated", name)], samples = score_sets(score, config.repeats, evaluation)
    for name, model in models.items():
        if model.spade_generator:
            scores[titled("real layouts", name)] = score_real_layouts(model.spade_generator, evaluation)
    if segmenter:
        scores[f"real pairs of {test_split(store)}"] = score_real_pairs(evaluation)
    rows = last.layout_generator.max_resolution if last.layout_generator else None
    scores["floor: real against real"] = score_floor(evaluation, rows)

    # --- What is written, by process 0; the others wait, so that none is gone before all of it is there ---
    def write():
        with writing_results(folder):
            for name in ("copies.png", "copies.json"):
                (folder / name).unlink(missing_ok=True)  # of an earlier evaluation
        if config.copy_check and samples:
            generated = [row for name, row in scores.items() if name.startswith("generated")]
            generated[-1]["copy_check"] = write_copy_check(samples, config, store, folder)
        with writing_results(folder):
            save_png(contact_sheet(list(models.values()), store, config.seed), folder / "contact_sheet.png")
        record = make_record(files, evaluation, scores)
        finish(record, folder, weights)
        return record

    return from_first(write)


def titled(kind: str, model: str) -> str:
    return ", ".join(filter(None, (kind, model)))


def score_generated(model: Model, inception, evaluation: Evaluation) -> tuple[dict, dict | None]:
    """The row of samples from noise, and the samples. inception: the released FID's, where that is asked for."""
    samples = draw_from_noise(model.draw, evaluation)
    row = against_reference(samples, evaluation)
    if inception:
        add_fid_released(row, model, inception, evaluation)
    return row, samples


def write_copy_check(samples: dict, config: SceneScoring, store, folder: Path) -> dict:
    """Its numbers for the record; the picture and the list go to the folder."""
    layouts, images = (samples[name][:COPIES] if name in samples else None for name in ("layouts", "images"))
    record, found = copy_check(layouts, images, store)
    with writing_results(folder):
        save_png(copies_picture(layouts, images, found, store), folder / "copies.png")
        lines = ",\n ".join(map(json.dumps, nearest_items(found, store["train"], config.seed)))
        (folder / "copies.json").write_text(f"[{lines}]\n")
    return record


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(EvaluationSettings, arguments, "SBGAN.evaluate", __doc__)
    path, spade_path = Path(config.checkpoint), config.spade_checkpoint and Path(config.spade_checkpoint)
    name = path.stem if spade_path is None else f"{path.stem}+{spade_path.stem}"
    run(path, config, Path(config.results) / (path.resolve().parent.name or "checkpoint") / name, spade_path)


if __name__ == "__main__":
    main()
