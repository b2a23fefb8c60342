"""python -m SPADE.test: scores and pictures of stage 2 alone, on real layouts.

Examples:
    python -m SPADE.test --name camvid_spade
    python -m SPADE.test --name camvid_spade --epoch 6 --num_eval 101 --no_fid
"""

from dataclasses import dataclass, replace
from pathlib import Path

from datasets.errors import exit_on_user_error
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.engine.data import data_record, stored_data
from SPADE.engine.device import keep_freed_memory, pick
from SPADE.engine.distributed import from_first, start
from SPADE.engine.images import save_png
from SPADE.engine.watch import together
from SPADE.evaluation.record import finish, make_record, make_results, warnings_in_the_record, writing_results
from SPADE.evaluation.scores import begin, score_floor, score_real_layouts
from SPADE.evaluation.segmentation import score_real_pairs, test_split
from SPADE.evaluation.settings import ScoringSettings, check_samples
from SPADE.networks import SPADEGenerator, StyleEncoder
from SPADE.segmenter import open_segmenter
from SPADE.train import STAGE, pictures


@dataclass(frozen=True, kw_only=True)
class TestSettings(ScoringSettings):
    name: str = setting(help="stage 2's checkpoints are in WEIGHTS/NAME")
    epoch: int | None = setting(None, "its epoch; default the latest", at_least=0)
    weights: str = setting("weights", "folder of all checkpoints")


def run(config: TestSettings) -> dict:
    check_samples(config)
    path = checkpoint.newest(Path(config.weights) / config.name, STAGE, config.epoch, "epoch")
    saved = checkpoint.read(path, STAGE)
    store = stored_data(saved.content, path, config.store)
    device = start(pick(config.device))
    if device.type == "cpu":
        keep_freed_memory()
    segmenter = open_segmenter(config, data_record(store), device)
    evaluation = replace(begin(config, store, device, store.height, config.seed), segmenter=segmenter)

    networks = saved.content["networks"]
    generator = checkpoint.rebuild(SPADEGenerator, networks["generator"], device, config.ema)
    encoder = None
    if "encoder" in networks:
        encoder = checkpoint.rebuild(StyleEncoder, networks["encoder"], device, config.ema)
    folder = Path(config.results) / config.name
    make_results(folder)
    with together(), warnings_in_the_record():
        scores = {
            "real layouts": score_real_layouts(generator, evaluation),
            **({f"real pairs of {test_split(store)}": score_real_pairs(evaluation)} if segmenter else {}),
            "floor: real against real": score_floor(evaluation),
        }

        def write():
            with writing_results(folder):
                save_png(pictures(generator, store, device, encoder), folder / "contact_sheet.png")
            record = make_record({STAGE: saved.described(config.ema)}, evaluation, scores)
            finish(record, folder, path.parent)
            return record

        return from_first(write)  # the others wait, so that none is gone before all is written


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(TestSettings, arguments, "SPADE.test", __doc__))


if __name__ == "__main__":
    main()
