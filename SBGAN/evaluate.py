r"""python -m SBGAN.evaluate: scores and pictures of any training; the rows are those of the evaluation in training.

A run of stage 3 that is given by its name is scored before and after fine-tuning.

Examples:
    python -m SBGAN.evaluate --name camvid_finetune
    python -m SBGAN.evaluate --name camvid_finetune --epoch 4 --num_eval 101 --repeats 3
    python -m SBGAN.evaluate --name camvid_spade --epoch 40 --no_fid
    python -m SBGAN.evaluate --checkpoint weights/camvid_finetune/finetune_4.pt
    python -m SBGAN.evaluate --checkpoint weights/camvid_layout/layout_4000.pt \
        --spade_checkpoint weights/camvid_spade/spade_48.pt --repeats 3 --no_fid
"""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datasets.errors import UserError, exit_on_user_error
from SBGAN import train_progressive
from SBGAN.evaluation.copies import copies_picture, copy_check, nearest_items
from SBGAN.evaluation.scenes import add_fid_released, imagenet_inception, score_sets
from SBGAN.model import FINETUNE, SPADE_STAGE, STAGES, Model, assemble, read
from SBGAN.train_finetune_end2end import scenes_sheet
from SPADE import train as train_spade
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import Checkpoint, data_record, stored_data
from SPADE.engine.config import require, setting
from SPADE.engine.device import keep_freed_memory, pick
from SPADE.engine.distributed import from_first, join_processes, rank, together
from SPADE.engine.images import save_png
from SPADE.evaluation.features import ImageScores
from SPADE.evaluation.metrics import Evaluation, held_out_split, score_real_pairs
from SPADE.evaluation.scores import (
    against_reference,
    draw_from_noise,
    finish,
    make_evaluation,
    make_record,
    make_results,
    score_floor,
    score_real_layouts,
    warnings_in_the_record,
    writing_results,
)
from SPADE.segmenter import SegmenterFile, open_segmenter

COPIES = 500  # at most so many samples are looked for in the training data


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(SegmenterFile, ImageScores):
    store: str | None = setting(None, "packed data set to score against; default the one it was trained on")
    results: str = setting("results", "folder of all scores and pictures; a run's are in RESULTS/NAME")
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    seed: int = setting(0, "of the first latent; sample i has seed + i", at_least=0)
    ema: bool = setting(True, "score the averages of the weights, where there are some (--no_ema: the last weights)")
    name: str | None = setting(None, "a run of any stage, whose checkpoints are in WEIGHTS/NAME; or")
    checkpoint: str | None = setting(None, "a file of stage 1, 2 or 3, or of the RGB baseline")
    spade_checkpoint: str | None = setting(None, "with one of stage 1: SPADE's of stage 2, and both are scored as one")
    epoch: int | None = setting(None, "the run's epoch (stages 2 and 3); default the latest", at_least=0)
    pro_iter: int | None = setting(None, "the run's iteration (stage 1, baseline); default the latest", at_least=0)
    weights: str = setting("weights", "folder of all checkpoints")
    repeats: int = setting(1, "sets of samples; scores become their mean, beside their standard deviation", at_least=1)
    fid_released: bool = setting(False, "also as the released code did, for the published table alone")
    released_weights: str | None = setting(None, "torchvision's Inception for it; default: cache, else download")
    copy_check: bool = setting(True, "look for the nearest training layouts and images (--no_copy_check: do not)")


def check(config: EvaluationSettings):
    """Raises UserError."""
    last = config.seed + config.repeats * config.num_eval
    require(last < 2**63, "seed", config.seed, "below 2^63 with all samples", "lower it")
    one = bool(config.name) != bool(config.checkpoint)
    require(one, "name", config.name, "given, or --checkpoint is, not both", "say which training to score")
    for flag in ("epoch", "pro_iter"):
        found = getattr(config, flag)
        require(config.name or found is None, flag, found, "given with --name alone", "leave it out")
    require(config.checkpoint or config.spade_checkpoint is None, "spade_checkpoint", config.spade_checkpoint,
            "given with --checkpoint alone", "name stage 1's file by --checkpoint")  # fmt: skip


def run(config: EvaluationSettings) -> dict:
    """Scores one training, or a layout GAN with a SPADE. Returns the record."""
    check(config)
    path = newest_of_run(config) if config.name else Path(config.checkpoint)
    checkpoints = read(path, config.spade_checkpoint)
    store = stored_data(checkpoints[-1].content, checkpoints[-1].path, config.store)
    device = join_processes(pick(config.device))
    if device.type == "cpu":
        keep_freed_memory()
    if config.name and checkpoints[0].stage == FINETUNE.name:
        models, files = before_and_after(*checkpoints, device, config.ema)
    else:
        model = assemble(checkpoints, device, config.ema)
        models, files = {"": model}, model.files
    with together():
        return evaluate(models, files, config, store, results_folder(config, path), weights=path.parent)


def newest_of_run(config: EvaluationSettings) -> Path:
    """The newest checkpoint of the run --name, or that of --epoch or --pro_iter. Raises UserError."""
    folder = Path(config.weights) / config.name
    stages = [stage for stage in STAGES.values() if any(folder.glob(f"{stage.prefix}_*.pt"))]
    if not stages:
        wanted = " or ".join(f"{stage.prefix}_*.pt" for stage in STAGES.values())
        raise UserError(f"no checkpoint {wanted} in {folder}; run the stage that writes it first")
    flag, other = ("epoch", "pro_iter") if stages[0] in (FINETUNE, SPADE_STAGE) else ("pro_iter", "epoch")
    found = getattr(config, other)
    require(found is None, other, found, f"--{flag} for {stages[0].prefix}_*.pt in {folder}", "take that flag")
    return checkpoint.newest(folder, stages[0].prefix, getattr(config, flag), flag)


def before_and_after(joined: Checkpoint, device, averaged: bool) -> tuple[dict, dict]:
    """Models of a fine-tuning and of what it started from, if that is there; what the record says of their files."""
    origin = {name: Path(file) for name, file in joined.content.get("origin", {}).items()}
    models, files = {}, {FINETUNE.name: joined.described(averaged)}
    if origin and all(file.is_file() for file in origin.values()):
        pair = read(origin["layout"], origin["spade"])
        models["before fine-tuning"] = assemble(pair, device, averaged)
        files |= {name: file.described(averaged) for name, file in zip(("layout", "spade"), pair, strict=True)}
    elif rank() == 0:
        print(f"{' or '.join(map(str, origin.values())) or 'What it started from'} is gone: no scores of that")
    models["fine-tuned"] = assemble([joined], device, averaged)
    return models, files


def results_folder(config: EvaluationSettings, path: Path) -> Path:
    if config.name:
        return Path(config.results) / config.name
    name = path.stem + (f"+{Path(config.spade_checkpoint).stem}" if config.spade_checkpoint else "")
    return Path(config.results) / (path.resolve().parent.name or "checkpoint") / name


@warnings_in_the_record()
def evaluate(
    models: dict[str, Model], files: dict, config: EvaluationSettings, store, folder: Path, weights: Path
) -> dict:
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
    evaluation = make_evaluation(config, store, last.device, last.image_height, config.seed)
    evaluation = replace(evaluation, segmenter=segmenter)
    inception = imagenet_inception(config.released_weights, last.device) if config.fid_released else None
    make_results(folder)
    ceiling = score_real_pairs(evaluation) if segmenter else None  # first: what a network can't do shows at once

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
        scores[f"real pairs of {held_out_split(store)}"] = ceiling
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


def contact_sheet(models, store, seed: int):
    """One picture of what models draw, one below the other: uint8 [3,...]"""
    last = models[-1]
    if last.image_generator is not None:
        return train_progressive.pictures(last.image_generator, seed=seed)
    if last.layout_generator is None:
        return train_spade.pictures(last.spade_generator, store, last.device, last.encoder)
    return scenes_sheet([(model.layout_generator, model.spade_generator) for model in models], store, seed)


def write_copy_check(samples: dict, config: EvaluationSettings, store, folder: Path) -> dict:
    """Returns the check's numbers for the record; its picture and list go to the folder."""
    layouts, images = (samples[name][:COPIES] if name in samples else None for name in ("layouts", "images"))
    record, found = copy_check(layouts, images, store)
    with writing_results(folder):
        save_png(copies_picture(layouts, images, found, store), folder / "copies.png")
        lines = ",\n ".join(map(json.dumps, nearest_items(found, store["train"], config.seed)))
        (folder / "copies.json").write_text(f"[{lines}]\n")
    return record


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(EvaluationSettings, arguments, "SBGAN.evaluate", __doc__))


if __name__ == "__main__":
    main()
