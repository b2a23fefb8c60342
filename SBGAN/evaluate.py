"""python -m SBGAN.evaluate: scores and pictures of any checkpoint; the rows are those of the evaluation in training."""

import contextlib
import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.packed import Store
from SBGAN.baseline import draws, load_baseline, sample_images
from SBGAN.contact_sheet import contact_sheet
from SBGAN.copies import copies_picture, copy_check
from SBGAN.model import Model, load, stage_of
from SBGAN.released_fid import PROTOCOL, fid_released, soft_scenes
from SBGAN.scores import score_generated, score_layout_floor, score_layouts
from SPADE import scoring
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.device import pick
from SPADE.engine.images import save_png, square_sheet
from SPADE.scores import COLUMNS, against_real, find_extractor, score_floor, score_real_layouts
from SPADE.scoring import check_samples, finish, stored_data


@dataclass(frozen=True, kw_only=True)
class Scoring(scoring.Scoring):
    """How to score samples from noise; the flags that all these programs have."""

    repeats: int = setting(1, "sets of samples; scores become their mean, beside their standard deviation")
    fid_released: bool = setting(False, "also as the released code did, for the published table alone")
    released_weights: str | None = setting(None, "torchvision's Inception for it; default: cache, else download")
    copy_check: bool = setting(True, "look for the nearest training layouts and images (--no_copy_check: do not)")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Scoring):
    checkpoint: str = setting(help="file of stage 1, 2 or 3, or of the RGB baseline")
    spade_checkpoint: str | None = setting(None, "with one of stage 1: SPADE's of stage 2, and both are scored as one")


class Scorer:
    """The data, the feature network and the numbers that all rows of one evaluation share."""

    def __init__(self, config: Scoring, store: Store, device, images: bool = True):
        self.config, self.store, self.device = config, store, device
        extractor, self.left_out = None, "there are no images"
        if images:
            extractor, self.left_out = find_extractor(config.fid, config.inception_weights, config.feature_extractor)
        self.features = (device, extractor, self.left_out)
        if images and self.left_out:
            print(f"FID is left out of the scores: {self.left_out}")

    def repeated(self, score) -> dict:
        """score: seed of the first sample -> row. Further sets of samples follow upon the seeds of the first."""
        config = self.config
        rows = [score(config.seed + k * config.num_eval) for k in range(config.repeats)]
        return mean_row(rows) if len(rows) > 1 else rows[0]

    def generated(self, model: Model) -> dict:
        """Scenes from noise, or layouts alone where there is no SPADE."""
        num = self.config.num_eval
        both = (model.layout_generator, model.spade_generator)

        def score(seed):
            if model.spade_generator is None:
                return score_layouts(model.sample_layouts(range(seed, seed + num)), self.store)
            row = score_generated(*both, self.store, num, seed, *self.features)
            return self.as_released(row, soft_scenes(*both, self.store, self.device), seed, self.store.height)

        return self.repeated(score)

    def as_released(self, row: dict, draw, seed: int, height: int) -> dict:
        """Adds fid_released if it is asked for."""
        if self.config.fid_released:
            how = (self.config.num_eval, seed, height, self.device, self.config.released_weights)
            row["fid_released"] = fid_released(draw, self.store, *how)
            row["protocol"]["fid_released"] = PROTOCOL
        return row

    def real_layouts(self, model: Model) -> dict:
        return score_real_layouts(model.spade_generator, self.store, self.config.num_eval, *self.features)

    def floor(self, layout_rows: int | None, images: bool, image_rows: int | None = None) -> dict:
        """Training against validation: no generator can be expected below."""
        num = self.config.num_eval
        row = score_layout_floor(self.store, layout_rows, num) if layout_rows else {}
        return row | (score_floor(self.store, num, *self.features, image_rows) if images else {})


@contextlib.contextmanager
def warnings_in_the_record():
    """What scores of few images are worth is in the record and under the table; it needn't be said in between."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mostly bias", UserWarning)
        yield


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
    scorer = Scorer(config, store, device, images=last.spade_generator is not None)

    def rows_of(kind, score, has):
        return {", ".join(filter(None, (kind, name))): score(m) for name, m in models.items() if has(m)}

    scores = rows_of("generated", scorer.generated, lambda m: m.layout_generator is not None)
    scores |= rows_of("real layouts", scorer.real_layouts, lambda m: m.spade_generator is not None)
    rows = last.layout_generator.max_resolution if last.layout_generator is not None else None
    scores["floor: real against real"] = scorer.floor(rows, images=last.spade_generator is not None)

    if config.copy_check and last.layout_generator is not None:
        seeds = range(config.seed, config.seed + min(config.num_eval, 500))
        layouts = last.sample_layouts(seeds)
        images = None
        if last.spade_generator is not None:
            images = torch.cat([last.render(layouts[i : i + 1], seeds[i : i + 1]) for i in range(len(seeds))])
        write_copy_check(scores, layouts, images, store, folder)
    save_png(contact_sheet(list(models.values()), store, config.seed), folder / "contact_sheet.png")
    return scores, scorer.left_out


@warnings_in_the_record()
def evaluate_baseline(generator, config: Scoring, store: Store, device, folder: Path) -> tuple[dict, str | None]:
    """The same of the RGB baseline, at the size that it draws at."""
    scorer, num = Scorer(config, store, device), config.num_eval

    def images(seed, count=num):
        return sample_images(generator, range(seed, seed + count), device)

    def score(seed):
        row = against_real(images(seed), store, *scorer.features)
        return scorer.as_released(row, draws(generator, device), seed, generator.max_resolution)

    scores = {"generated": scorer.repeated(score)}
    scores["floor: real against real"] = scorer.floor(None, images=True, image_rows=generator.max_resolution)
    if config.copy_check:
        write_copy_check(scores, None, images(config.seed, min(num, 500)), store, folder)
    save_png(square_sheet(images(config.seed, min(num, 32))), folder / "contact_sheet.png")
    return scores, scorer.left_out


def write_copy_check(scores, layouts, images, store, folder):
    record, found = copy_check(layouts, images, store)
    next(row for name, row in reversed(scores.items()) if name.startswith("generated"))["copy_check"] = record
    save_png(copies_picture(layouts, images, found, store), folder / "copies.png")


def check(config: Scoring):
    check_samples(config, sets=config.repeats)
    require(config.repeats >= 1, "repeats", config.repeats, "at least 1", "pass a larger number")


def run_on(path: Path, config: Scoring, spade_path: Path | None = None) -> dict:
    """Scores one checkpoint of any stage, or one of stage 1 with one of stage 2 in spade_path. Returns the record."""
    check(config)
    content = checkpoint.load(path, stage_of(path) or "finetune")
    store = stored_data(content, path, config)
    device = pick(config.device)
    folder = Path(config.results) / (path.resolve().parent.name or "checkpoint")
    files = {content["stage"]: path} | ({"spade": spade_path} if spade_path else {})
    if content["stage"] == "image_gan":
        scores = evaluate_baseline(load_baseline(content, device), config, store, device, folder)
    else:
        scores = evaluate({"": load(path, spade_path, device)}, config, store, device, folder)
    return finish(*scores, files, config, store, folder, path.parent)


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(EvaluationSettings, arguments, "SBGAN.evaluate")
    run_on(Path(config.checkpoint), config, Path(config.spade_checkpoint) if config.spade_checkpoint else None)


if __name__ == "__main__":
    main()
