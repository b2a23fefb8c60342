"""python -m SBGAN.test_finetune_end2end: scores and pictures of the joined model, before and after fine-tuning."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from datasets.reader import in_order
from SBGAN.model import Model, check_store, load_joined, load_pair
from SBGAN.scores import sample, score_generated, score_layout_floor
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.device import pick
from SPADE.engine.evaluation import evaluating
from SPADE.engine.images import colour_layouts, enlarge, save_png, sheet
from SPADE.sampling import render
from SPADE.scores import append_record, find_inception, make_record, score_floor, score_real_layouts, table


@dataclass(frozen=True)
class ScoringSettings:
    store: str = setting(help="packed data set to score against")
    name: str = setting(help="stage 3's checkpoints are in WEIGHTS/NAME")
    epoch: int | None = setting(None, "stage 3's epoch; default the latest")
    weights: str = setting("weights", "folder of all checkpoints")
    results: str = setting("results", "pictures and scores go to RESULTS/NAME")
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    seed: int = setting(0, "of the first latent; sample i has seed + i")
    num_eval: int = setting(500, "images of a score")
    inception_weights: str | None = setting(None, "file of the FID Inception; default: cache, else download")
    fid: bool = setting(True, "compute FID, KID, precision and recall (--no_fid: FSD and SWD only)")


def contact_sheet(before: Model | None, after: Model, store, seed: int, device, num: int = 8):
    """Layouts above their images: generated before and after fine-tuning, from real layouts, and real images."""
    colours = torch.from_numpy(store.label_space.colours)

    def shown(layouts):
        return enlarge(colour_layouts(layouts, colours), store.height, store.width)

    rows = []
    for model in (before, after):
        if model is not None:
            layouts, images = sample(model.layout_generator, model.spade_generator, num, seed, device)
            rows += [shown(layouts), images]
    split = store[store.reference]
    images, labels = spread_pairs(split, num)
    with evaluating(after.spade_generator):
        rows += [shown(labels), render(after.spade_generator, labels, device), images]
    return sheet(rows)


def spread_pairs(split, num):
    """`num` pairs spread over the split: neighbours of a video look alike."""
    picks = [in_order(split, i, i + 1) for i in range(0, len(split), max(1, len(split) // num))][:num]
    return torch.cat([images for images, _ in picks]), torch.cat([labels for _, labels in picks])


def run(config: ScoringSettings) -> dict:
    store = open_store(config.store)
    require(config.num_eval >= 2, "num_eval", config.num_eval, "at least 2", "pass a larger number")
    path = checkpoint.newest(Path(config.weights) / config.name, "finetune", config.epoch, "epoch")
    content = checkpoint.load(path, "finetune")
    check_store(content["data"], path, store, config.store)
    device = pick(config.device)
    inception, left_out = find_inception(config)
    if left_out:
        print(f"FID is left out of the scores: {left_out}")

    after = load_joined(path, device)
    origin = {name: Path(file) for name, file in content["origin"].items()}
    before, scores = None, {}
    how = (store, config.num_eval, config.seed, device, inception)
    if all(file.is_file() for file in origin.values()):
        before = load_pair(origin["layout"], origin["spade"], device)
        scores["generated, before fine-tuning"] = score_generated(before.layout_generator, before.spade_generator, *how)
    else:
        print(f"{' or '.join(map(str, origin.values()))} is gone: no scores from before fine-tuning")
    scores["generated, fine-tuned"] = score_generated(after.layout_generator, after.spade_generator, *how)
    if before is not None:
        real_before = score_real_layouts(before.spade_generator, store, config.num_eval, device, inception)
        scores["real layouts, before fine-tuning"] = real_before
    real_after = score_real_layouts(after.spade_generator, store, config.num_eval, device, inception)
    scores["real layouts, fine-tuned"] = real_after
    layout_floor = score_layout_floor(store, after.layout_generator.max_resolution, config.num_eval)
    scores["floor: real against real"] = layout_floor | score_floor(store, config.num_eval, device, inception)

    folder = Path(config.results) / config.name
    save_png(contact_sheet(before, after, store, config.seed, device), folder / "contact_sheet.png")
    checkpoints = {"finetune": path} | ({} if before is None else origin)
    record = make_record(checkpoints, store, config.num_eval, config.seed, scores, left_out)
    (folder / "scores.json").write_text(json.dumps(record, indent=1) + "\n")
    append_record(record, path.parent)
    print(table(scores))
    print(f"pictures: {folder / 'contact_sheet.png'}")
    print(f"scores:   {folder / 'scores.json'}, {path.parent / 'metrics.jsonl'}")
    return record


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(ScoringSettings, arguments, "SBGAN.test_finetune_end2end"))


if __name__ == "__main__":
    main()
