"""python -m SPADE.test: scores and pictures of stage 2 alone, on real layouts.

Examples:
    python -m SPADE.test --name camvid_spade
    python -m SPADE.test --name camvid_spade --epoch 6 --num_eval 101 --no_fid
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import exit_on_user_error
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.engine.device import pick
from SPADE.engine.distributed import rank, start
from SPADE.engine.images import save_png
from SPADE.engine.watch import together
from SPADE.evaluation.images import find_extractor, score_floor, score_real_layouts
from SPADE.evaluation.record import (
    Scoring,
    check_samples,
    finish,
    make_results,
    stored_data,
    warnings_in_the_record,
    writing_results,
)
from SPADE.networks import SPADEGenerator, StyleEncoder
from SPADE.train import STAGE, pictures


@dataclass(frozen=True, kw_only=True)
class TestSettings(Scoring):
    name: str = setting(help="stage 2's checkpoints are in WEIGHTS/NAME")
    epoch: int | None = setting(None, "its epoch; default the latest", at_least=0)
    weights: str = setting("weights", "folder of all checkpoints")


def run(config: TestSettings) -> dict:
    check_samples(config)
    path = checkpoint.newest(Path(config.weights) / config.name, STAGE, config.epoch, "epoch")
    content = checkpoint.load(path, STAGE)
    store = stored_data(content, path, config)
    device = start(pick(config.device))
    extractor, left_out = find_extractor(config, store.height, store.width, device)

    networks = content["networks"]
    generator = checkpoint.rebuild(SPADEGenerator, networks["generator"], device, config.ema)
    encoder = None
    if "encoder" in networks:
        encoder = checkpoint.rebuild(StyleEncoder, networks["encoder"], device, config.ema)
    how = (store, config.num_eval, device, extractor, left_out)
    folder = Path(config.results) / config.name
    make_results(folder)
    with together(), warnings_in_the_record():
        scores = {
            "real layouts": score_real_layouts(generator, *how),
            "floor: real against real": score_floor(*how),
        }
        if rank() == 0:
            drawn = pictures(generator, store, device, encoder)
            with writing_results(folder):
                save_png(drawn, folder / "contact_sheet.png")
        return finish(scores, left_out, {STAGE: path}, config, store, folder, path.parent)


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(TestSettings, arguments, "SPADE.test", __doc__))


if __name__ == "__main__":
    main()
