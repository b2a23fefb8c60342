r"""python -m SBGAN.evaluate: scores and pictures of any checkpoint; the rows are those of the evaluation in training.

Examples:
    python -m SBGAN.evaluate --checkpoint weights/camvid_finetune/finetune_3.pt
    python -m SBGAN.evaluate --checkpoint weights/camvid_layout/layout_1288.pt \
        --spade_checkpoint weights/camvid_spade/spade_12.pt --repeats 3 --no_fid
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import exit_on_user_error
from datasets.packed import Store
from SBGAN.baseline import draws, image_rows, load_baseline
from SBGAN.drawing.contact_sheet import contact_sheet
from SBGAN.evaluation.copies import copies_picture, copy_check, nearest_items
from SBGAN.evaluation.released_fid import PROTOCOL, fid_released, imagenet_inception, soft_scenes
from SBGAN.evaluation.scenes import layout_rows, scene_rows, score_layout_floor, score_layouts, score_scenes
from SBGAN.model import Model, load, stage_of
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.device import pick
from SPADE.engine.distributed import from_first, rank, start
from SPADE.engine.images import save_png, square_sheet
from SPADE.engine.watch import together
from SPADE.evaluation import record as scoring
from SPADE.evaluation.images import COLUMNS, against_real, find_extractor, score_floor, score_real_layouts
from SPADE.evaluation.record import (
    check_samples,
    finish,
    make_results,
    stored_data,
    warnings_in_the_record,
    writing_results,
)

COPIES = 500  # at most so many samples are looked for in the training data


@dataclass(frozen=True, kw_only=True)
class Scoring(scoring.Scoring):
    """How to score samples from noise; the flags that all these programs have."""

    repeats: int = setting(1, "sets of samples; scores become their mean, beside their standard deviation", at_least=1)
    fid_released: bool = setting(False, "also as the released code did, for the published table alone")
    released_weights: str | None = setting(None, "torchvision's Inception for it; default: cache, else download")
    copy_check: bool = setting(True, "look for the nearest training layouts and images (--no_copy_check: do not)")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Scoring):
    checkpoint: str = setting(help="file of stage 1, 2 or 3, or of the RGB baseline")
    spade_checkpoint: str | None = setting(None, "with one of stage 1: SPADE's of stage 2, and both are scored as one")


class Scorer:
    """The data, the feature network and the numbers that all rows of one evaluation share."""

    def __init__(self, config: Scoring, store: Store, device, height: int | None):
        """height: of the images, None if there are none."""
        self.config, self.store, self.device = config, store, device
        self.extractor, self.left_out = None, "there are no images"
        if height:
            self.extractor, self.left_out = find_extractor(config, height, height * store.aspect, device)
        self.features = (device, self.extractor, self.left_out)
        self.inception = imagenet_inception(config.released_weights, device) if config.fid_released else None
        self.samples = None  # of the last model, the first set: rows as of `shared_out`

    def repeated(self, score) -> dict:
        """score: seed of the first sample -> row and samples. Further sets follow upon the seeds of the first."""
        config, rows = self.config, []
        for k in range(config.repeats):
            row, samples = score(config.seed + k * config.num_eval)
            rows.append(row)
            if k == 0:
                self.samples = samples
        return mean_row(rows) if len(rows) > 1 else rows[0]

    def generated(self, model: Model) -> dict:
        """Scenes from noise, or layouts alone where there is no SPADE."""
        num, store = self.config.num_eval, self.store
        both = (model.layout_generator, model.spade_generator)

        def score_layouts_alone(seed):
            samples = layout_rows(model.layout_generator, num, seed, self.device)
            return from_first(lambda: score_layouts(samples["layouts"], store)), samples

        def score(seed):
            samples = scene_rows(*both, num, seed, self.device, self.extractor)
            row = score_scenes(samples, num, store, *self.features)
            return self.as_released(row, soft_scenes(*both, store, self.device), seed, store.height), samples

        return self.repeated(score if model.spade_generator is not None else score_layouts_alone)

    def generated_by_baseline(self, generator) -> dict:
        """Images from noise, at the size that the RGB baseline draws at."""
        num, height = self.config.num_eval, generator.max_resolution

        def score(seed):
            samples = image_rows(generator, num, seed, self.device, self.extractor)
            row = against_real(samples, num, self.store, *self.features, height)
            return self.as_released(row, draws(generator, self.device), seed, height), samples

        return self.repeated(score)

    def as_released(self, row: dict, draw, seed: int, height: int) -> dict:
        """Adds fid_released if it is asked for."""
        if self.config.fid_released:
            how = (self.config.num_eval, seed, height, self.device)
            row["fid_released"] = fid_released(draw, self.inception, self.store, *how)
            row["protocol"]["fid_released"] = PROTOCOL
        return row

    def real_layouts(self, model: Model) -> dict:
        return score_real_layouts(model.spade_generator, self.store, self.config.num_eval, *self.features)

    def floor(self, layout_height: int | None, images: bool, image_height: int | None = None) -> dict:
        """Training against validation: no generator can be expected below."""
        num = self.config.num_eval
        row = from_first(score_layout_floor, self.store, layout_height, num) if layout_height else {}
        return row | (score_floor(self.store, num, *self.features, image_height) if images else {})


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


@warnings_in_the_record()
def evaluate(models: dict[str, Model], config: Scoring, store: Store, device, folder: Path) -> tuple[dict, str | None]:
    """Rows of scores by name, and why FID is missing, if it is. Pictures go to `folder`.

    models: name ("" if there is one) -> model. All models of a row kind come before the next kind.
    """
    last = list(models.values())[-1]
    draws_scenes = last.layout_generator is not None and last.spade_generator is not None
    require(draws_scenes or not config.fid_released, "fid_released", "given", "left out for a checkpoint of one stage",
            "it scores images of generated layouts")  # fmt: skip
    scorer = Scorer(config, store, device, store.height if last.spade_generator is not None else None)
    make_results(folder)

    def rows_of(kind, score, has):
        return {", ".join(filter(None, (kind, name))): score(m) for name, m in models.items() if has(m)}

    scores = rows_of("generated", scorer.generated, lambda m: m.layout_generator is not None)
    scores |= rows_of("real layouts", scorer.real_layouts, lambda m: m.spade_generator is not None)
    rows = last.layout_generator.max_resolution if last.layout_generator is not None else None
    scores["floor: real against real"] = scorer.floor(rows, images=last.spade_generator is not None)

    if rank() == 0:
        write_copy_check(scores, scorer.samples, config, store, folder)
        drawn = contact_sheet(list(models.values()), store, config.seed)
        with writing_results(folder):
            save_png(drawn, folder / "contact_sheet.png")
    return scores, scorer.left_out


@warnings_in_the_record()
def evaluate_baseline(generator, config: Scoring, store: Store, device, folder: Path) -> tuple[dict, str | None]:
    """The same of the RGB baseline, at the size that it draws at."""
    scorer = Scorer(config, store, device, generator.max_resolution)
    make_results(folder)
    scores = {"generated": scorer.generated_by_baseline(generator)}
    scores["floor: real against real"] = scorer.floor(None, images=True, image_height=generator.max_resolution)
    if rank() == 0:
        write_copy_check(scores, scorer.samples, config, store, folder)
        with writing_results(folder):
            save_png(square_sheet(scorer.samples["images"][:32]), folder / "contact_sheet.png")
    return scores, scorer.left_out


def write_copy_check(scores, samples: dict | None, config: Scoring, store, folder):
    """samples: {"layouts", "images"} or one of them; None if there are none."""
    with writing_results(folder):
        for name in ("copies.png", "copies.json"):
            (folder / name).unlink(missing_ok=True)  # of an earlier evaluation
    if not (config.copy_check and samples):
        return
    layouts, images = (samples[name][:COPIES] if name in samples else None for name in ("layouts", "images"))
    record, found = copy_check(layouts, images, store)
    next(row for name, row in reversed(scores.items()) if name.startswith("generated"))["copy_check"] = record
    with writing_results(folder):
        save_png(copies_picture(layouts, images, found, store), folder / "copies.png")
        lines = ",\n ".join(map(json.dumps, nearest_items(found, store["train"], config.seed)))
        (folder / "copies.json").write_text(f"[{lines}]\n")


def check(config: Scoring):
    check_samples(config, sets=config.repeats)


def run_on(path: Path, config: Scoring, spade_path: Path | None = None) -> dict:
    """Scores one checkpoint of any stage, or one of stage 1 with one of stage 2 in spade_path. Returns the record."""
    check(config)
    content = checkpoint.load(path, stage_of(path) or "finetune")
    store = stored_data(content, path, config)
    device = start(pick(config.device))
    folder = Path(config.results) / (path.resolve().parent.name or "checkpoint")
    files = {content["stage"]: path} | ({"spade": spade_path} if spade_path else {})
    with together():
        if content["stage"] == "image_gan":
            generator = load_baseline(content, device, config.ema)
            scores = evaluate_baseline(generator, config, store, device, folder)
        else:
            scores = evaluate({"": load(path, spade_path, device, config.ema)}, config, store, device, folder)
        return finish(*scores, files, config, store, folder, path.parent)


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(EvaluationSettings, arguments, "SBGAN.evaluate", __doc__)
    run_on(Path(config.checkpoint), config, Path(config.spade_checkpoint) if config.spade_checkpoint else None)


if __name__ == "__main__":
    main()
