"""python -m SBGAN.test_finetune_end2end: scores and pictures of the joined model, before and after fine-tuning.

Examples:
    python -m SBGAN.test_finetune_end2end --name camvid_finetune
    python -m SBGAN.test_finetune_end2end --name camvid_finetune --epoch 2 --num_eval 101 --repeats 3
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import exit_on_user_error
from SBGAN import evaluate
from SBGAN.model import load_joined, load_pair
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.engine.device import pick
from SPADE.engine.distributed import rank, start
from SPADE.engine.watch import together
from SPADE.evaluation.record import finish, stored_data


@dataclass(frozen=True, kw_only=True)
class ScoringSettings(evaluate.Scoring):
    name: str = setting(help="stage 3's checkpoints are in WEIGHTS/NAME")
    epoch: int | None = setting(None, "stage 3's epoch; default the latest", at_least=0)
    weights: str = setting("weights", "folder of all checkpoints")


def run(config: ScoringSettings) -> dict:
    evaluate.check(config)
    path = checkpoint.newest(Path(config.weights) / config.name, "finetune", config.epoch, "epoch")
    content = checkpoint.load(path, "finetune")
    store = stored_data(content, path, config)
    device = start(pick(config.device))

    origin = {name: Path(file) for name, file in content["origin"].items()}
    models, files = {}, {"finetune": path}
    if origin and all(file.is_file() for file in origin.values()):
        models["before fine-tuning"] = load_pair(origin["layout"], origin["spade"], device, config.ema)
        files |= origin
    elif rank() == 0:
        print(f"{' or '.join(map(str, origin.values())) or 'What it started from'} is gone: no scores of that")
    models["fine-tuned"] = load_joined(path, device, config.ema)

    folder = Path(config.results) / config.name
    with together():
        scores = evaluate.evaluate(models, config, store, device, folder)
        return finish(*scores, files, config, store, folder, path.parent)


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(ScoringSettings, arguments, "SBGAN.test_finetune_end2end", __doc__))


if __name__ == "__main__":
    main()
