r"""python -m SBGAN.train_finetune_end2end: stage 3, both generators joined.

Examples:
    python -m SBGAN.train_finetune_end2end --store packed/camvid --name joined --layout_name camvid_layout \
        --spade_name camvid_spade
    python -m SBGAN.train_finetune_end2end --store packed/camvid --name spade_alone --layout_name camvid_layout \
        --spade_name camvid_spade --no_train_layout
"""

from dataclasses import replace
from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from SBGAN.evaluation.scenes import sample, score_generated
from SBGAN.joint_stage import PREFIX, STAGE, Networks, train
from SBGAN.model import check_fit, load_networks
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.settings import FinetuneSettings, check_finetune
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.data import data_record
from SPADE.engine.device import pick, seed_everything
from SPADE.engine.distributed import rank, start
from SPADE.engine.images import colour_layouts, enlarge, sheet
from SPADE.engine.run_folder import RunFolder
from SPADE.evaluation.images import find_extractor, numbers, record_in_training, score_real_layouts
from SPADE.evaluation.record import check_store
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder
from SPADE.train import perceptual_network, picture_rows


def make_pictures(store, device, num: int = 8):
    """Function of the generators: generated layouts and their images, real layouts, their images, real images."""
    colours = torch.from_numpy(store.label_space.colours)

    def pictures(layout_generator, spade_generator, encoder):
        layouts, images = sample(layout_generator, spade_generator, range(num), device)
        layouts = enlarge(colour_layouts(layouts, colours), store.height, store.width)
        return sheet([layouts, images, *picture_rows(spade_generator, store, device, encoder, num)])

    return pictures


def run(config: FinetuneSettings) -> Path:
    # --- What can be refused is refused before anything is built ---
    store = open_store(config.store)
    check_finetune(config, store)
    device = start(pick(config.device))
    folder = RunFolder(config, PREFIX, STAGE)
    if folder.saved:
        config, origin = continued(config, folder.saved.content)
        stages = None
    else:
        config, origin, stages = starting_point(config, store)

    # --- Pretrained networks, scores ---
    vgg = perceptual_network(config, device)
    extractor = left_out = None
    if config.evaluate_every:
        extractor, left_out = find_extractor(config, store.height, store.width, device)

    def score(layout_generator, spade_generator, images_seen):
        num, how = config.num_eval, (device, extractor, left_out)
        generated = score_generated(layout_generator, spade_generator, store, num, 0, *how)
        real = score_real_layouts(spade_generator, store, num, *how)
        record_in_training({"generated": generated, "real layouts": real}, images_seen, config, store, left_out)
        return numbers(generated, "score_generated/") | numbers(real, "score_real_layouts/")

    # --- Networks ---
    folder.begin(config, data_record(store), origin=origin.values(), constant_images=lambda config: (
        (config.pretrain_epochs + config.niter) * store["train"].draws_per_epoch
    ))  # fmt: skip
    seed_everything(config.seed)
    if folder.saved:
        networks = rebuild_networks(folder.saved.content["networks"], vgg, device)
    else:
        learning = config.train_layout, config.train_spade
        networks = Networks(**load_networks(stages["layout"], stages["spade"], *learning, vgg, device))
    return train(config, store, networks, folder, origin, device, make_pictures(store, device), score, stages)


def rebuild_networks(records: dict, vgg, device) -> Networks:
    """Of a checkpoint of this stage: the files of stages 1 and 2 may be gone."""
    classes = {
        "layout_generator": LayoutGenerator,
        "layout_discriminator": ProgressiveDiscriminator,
        "spade_generator": SPADEGenerator,
        "image_discriminator": MultiscaleDiscriminator,
        "image_discriminator_2": MultiscaleDiscriminator,
        "encoder": StyleEncoder,
    }
    networks = {name: checkpoint.rebuild(classes[name], record, device) for name, record in records.items()}
    return Networks(**networks, vgg=vgg)


def starting_point(config, store):
    """The newest or the named checkpoints of stages 1 and 2: settings that name them, their paths, their contents (as
    {"layout": ..., "spade": ...})."""
    weights = Path(config.weights)
    layout_path = checkpoint.newest(weights / config.layout_name, "layout", config.pro_iter, "pro_iter")
    spade_path = checkpoint.newest(weights / config.spade_name, "spade", config.spade_epoch, "spade_epoch")
    layout, spade = checkpoint.load(layout_path, "layout_gan"), checkpoint.load(spade_path, "spade")
    check_fit(layout, layout_path, spade, spade_path)
    check_store(spade["data"], spade_path, store, config.store)
    if rank() == 0:
        print(f"starting from {layout_path} and {spade_path}")
    numbers = {"pro_iter": checkpoint.number_of(layout_path), "spade_epoch": checkpoint.number_of(spade_path)}
    paths = {"layout": str(layout_path), "spade": str(spade_path)}
    return replace(config, **numbers), paths, {"layout": layout, "spade": spade}


def continued(config, saved: dict):
    """Settings and origin of a run that goes on: where no number was asked for, it is not the latest but the run's."""
    missing = {key: saved["config"][key] for key in ("pro_iter", "spade_epoch") if getattr(config, key) is None}
    return replace(config, **missing), saved["origin"]


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(FinetuneSettings, arguments, "SBGAN.train_finetune_end2end", __doc__))
    if rank() == 0:
        print(f"joined model saved to {path}")


if __name__ == "__main__":
    main()
