"""python -m SBGAN.train_finetune_end2end: stage 3, both generators joined."""

from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from SBGAN.finetune_loop import Networks, train
from SBGAN.model import check_fit, check_store, load_networks
from SBGAN.scores import sample, score_generated
from SBGAN.settings import FinetuneSettings, check_finetune
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.device import pick, seed_everything
from SPADE.engine.distributed import start
from SPADE.engine.images import colour_layouts, enlarge, sheet
from SPADE.scores import find_inception, numbers
from SPADE.train import perceptual_network
from SPADE.training_loop import pictures as real_layout_pictures


def make_pictures(store, device, num: int = 8):
    """Function of both generators: generated layouts and their images, real layouts, their images, real images."""
    colours = torch.from_numpy(store.label_space.colours)

    def pictures(layout_generator, spade_generator):
        layouts, images = sample(layout_generator, spade_generator, num, 0, device)
        layouts = enlarge(colour_layouts(layouts, colours), store.height, store.width)
        generated = sheet([layouts, images])  # [3,2*H+...,W*num+...]
        return torch.cat([generated, real_layout_pictures(spade_generator, store, device, num=num)], 1)

    return pictures


def run(config: FinetuneSettings) -> Path:
    # --- What can be refused is refused before anything is built ---
    store = open_store(config.store)
    check_finetune(config, store)
    weights = Path(config.weights)
    layout_path = checkpoint.newest(weights / config.layout_name, "layout", config.pro_iter, "pro_iter")
    spade_path = checkpoint.newest(weights / config.spade_name, "spade", config.spade_epoch, "spade_epoch")
    layout, spade = checkpoint.load(layout_path, "layout_gan"), checkpoint.load(spade_path, "spade")
    check_fit(layout, layout_path, spade, spade_path)
    check_store(spade["data"], spade_path, store, config.store)
    print(f"starting from {layout_path} and {spade_path}")

    # --- Device, pretrained networks, scores ---
    device = start(pick(config.device))
    vgg = perceptual_network(config, device)
    evaluate = None
    if config.evaluate_every:
        inception, left_out = find_inception(config)
        if left_out:
            print(f"FID is left out of the scores: {left_out}")

        def evaluate(layout_generator, spade_generator):
            scores = score_generated(layout_generator, spade_generator, store, config.num_eval, 0, device, inception)
            return numbers(scores, "score_generated/")

    # --- Networks ---
    seed_everything(config.seed)
    d2_channels = spade["networks"]["discriminator"]["arguments"]["channels"]
    networks = Networks(**load_networks(layout, spade, vgg, d2_channels, device))
    origin = {"layout": str(layout_path), "spade": str(spade_path)}
    settings.save(config, weights / config.name / "config.json")
    return train(config, store, networks, origin, device, make_pictures(store, device), evaluate)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(FinetuneSettings, arguments, "SBGAN.train_finetune_end2end"))
    print(f"joined model saved to {path}")


if __name__ == "__main__":
    main()
