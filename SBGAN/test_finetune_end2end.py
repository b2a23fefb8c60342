"""python -m SBGAN.test_finetune_end2end: scores and pictures of the joined model, before and after fine-tuning.

Examples:
    python -m SBGAN.test_finetune_end2end --name camvid_finetune
    python -m SBGAN.test_finetune_end2end --name camvid_finetune --epoch 2 --num_eval 101 --repeats 3
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import exit_on_user_error
from SBGAN import evaluate
from SBGAN.model import assemble, read
from SBGAN.stages import FINETUNE
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import stored_data
from SPADE.engine.config import setting
from SPADE.engine.device import keep_freed_memory, pick
from SPADE.engine.distributed import rank, start, together


@dataclass(frozen=True, kw_only=True)
class FinetuneScoring(evaluate.SceneScoring):
    name: str = setting(help="stage 3's checkpoints are in WEIGHTS/NAME")
    epoch: int | None = setting(None, "stage 3's epoch; default the latest", at_least=0)
    weights: str = setting("weights", "folder of all checkpoints")


def run(config: FinetuneScoring) -> dict:
    evaluate.check(config)
    path = checkpoint.newest(Path(config.weights) / config.name, FINETUNE.prefix, config.epoch, "epoch")
    joined = checkpoint.read(path, FINETUNE.name)
    store = stored_data(joined.content, path, config.store)
    device = start(pick(config.device))
    if device.type == "cpu":
        keep_freed_memory()

    origin = {name: Path(file) for name, file in joined.content["origin"].items()}
    models, files = {}, {FINETUNE.name: joined.described(config.ema)}
    if origin and all(file.is_file() for file in origin.values()):
        pair = read(origin["layout"], origin["spade"])
        models["before fine-tuning"] = assemble(pair, device, config.ema)
        files |= {name: file.described(config.ema) for name, file in zip(("layout", "spade"), pair, strict=True)}
    elif rank() == 0:
        print(f"{' or '.join(map(str, origin.values())) or 'What it started from'} is gone: no scores of that")
    models["fine-tuned"] = assemble([joined], device, config.ema)

    with together():
        return evaluate.evaluate(models, files, config, store, Path(config.results) / config.name, path.parent)


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(FinetuneScoring, arguments, "SBGAN.test_finetune_end2end", __doc__))


if __name__ == "__main__":
    main()
