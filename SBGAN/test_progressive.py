"""python -m SBGAN.test_progressive: scores and pictures of the RGB baseline.

Examples:
    python -m SBGAN.test_progressive --name camvid_image
    python -m SBGAN.test_progressive --name camvid_image --pro_iter 5000 --num_eval 101 --fid_released
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import exit_on_user_error
from SBGAN import evaluate
from SBGAN.stages import IMAGE_GAN
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import setting


@dataclass(frozen=True, kw_only=True)
class BaselineScoring(evaluate.SceneScoring):
    name: str = setting(help="the baseline's checkpoints are in WEIGHTS/NAME")
    pro_iter: int | None = setting(None, "its iteration; default the latest", at_least=0)
    weights: str = setting("weights", "folder of all checkpoints")


def run(config: BaselineScoring) -> dict:
    path = checkpoint.newest(Path(config.weights) / config.name, IMAGE_GAN.prefix, config.pro_iter, "pro_iter")
    return evaluate.run(path, config, Path(config.results) / config.name)


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(BaselineScoring, arguments, "SBGAN.test_progressive", __doc__))


if __name__ == "__main__":
    main()
