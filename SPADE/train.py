"""python -m SPADE.train: stage 2."""

from pathlib import Path

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from SPADE.engine import config as settings
from SPADE.engine.device import pick, seed_everything
from SPADE.engine.distributed import rank, start
from SPADE.evaluation.record import flat_scores, record_in_training
from SPADE.evaluation.scores import begin, score_real_layouts
from SPADE.perceptual import VGG19Features
from SPADE.pretrained import vgg19_weights
from SPADE.settings import SpadeSettings, check
from SPADE.training_loop import train


def perceptual_network(config, device):
    """VGG-19, or None where --no_vgg_loss says so. Raises UserError where its weights can't be had."""
    if not config.vgg_loss:
        return None
    path = vgg19_weights(config.vgg_weights)
    return VGG19Features(path, imagenet_normalisation=config.vgg_imagenet_normalisation).to(device)


def run(config: SpadeSettings) -> Path:
    store = open_store(config.store)
    check(config, store)
    device = start(pick(config.device))
    vgg = perceptual_network(config, device)
    evaluate = None
    if config.evaluate_every:
        evaluation = begin(config, store, device, store.height)

        def evaluate(generator, images_seen):
            row = score_real_layouts(generator, evaluation)
            record_in_training({"real layouts": row}, images_seen, config, evaluation)
            return flat_scores(row, "score_real_layouts/")

    seed_everything(config.seed)
    return train(config, store, device, vgg, evaluate)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(SpadeSettings, arguments, "SPADE.train"))
    if rank() == 0:
        print(f"SPADE saved to {path}")


if __name__ == "__main__":
    main()
