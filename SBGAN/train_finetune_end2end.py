r"""python -m SBGAN.train_finetune_end2end: stage 3, both generators joined.

Examples:
    python -m SBGAN.train_finetune_end2end --store packed/camvid --name joined --layout_name camvid_layout \
        --spade_name camvid_spade
    python -m SBGAN.train_finetune_end2end --store packed/camvid --name spade_alone --layout_name camvid_layout \
        --spade_name camvid_spade --no_train_layout
"""

from dataclasses import replace
from pathlib import Path

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from SBGAN.drawing.files import scenes_sheet
from SBGAN.evaluation.scenes import score_scenes
from SBGAN.joint_stage import Networks, train
from SBGAN.model import check_fit, load_networks
from SBGAN.settings import FinetuneSettings, check_finetune
from SBGAN.stages import FINETUNE, LAYOUT_GAN, SPADE
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import check_store, data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.device import pick, seed_everything
from SPADE.engine.distributed import rank, start
from SPADE.engine.run_folder import RunFolder
from SPADE.evaluation.scores import begin, flat_scores, record_in_training, score_real_layouts
from SPADE.settings import check_augmentation
from SPADE.train import perceptual_network


def run(config: FinetuneSettings) -> Path:
    # --- What can be refused is refused before anything is built ---
    store = open_store(config.store)
    check_finetune(config, store)
    device = start(pick(config.device))
    check_compiler(config.compile, device)
    folder = RunFolder(config, FINETUNE.prefix, FINETUNE.name)
    if folder.saved:
        config, origin = continued(config, folder.saved.content)
        stages = None
    else:
        config, origin, stages = starting_point(config, store)

    # --- Pretrained networks, scores ---
    vgg = perceptual_network(config, device)
    evaluation = begin(config, store, device, store.height) if config.evaluate_every else None

    def score(layout_generator, spade_generator, images_seen):
        generated = score_scenes(layout_generator, spade_generator, evaluation)
        real = score_real_layouts(spade_generator, evaluation)
        record_in_training({"generated": generated, "real layouts": real}, images_seen, config, evaluation)
        return flat_scores(generated, "score_generated/") | flat_scores(real, "score_real_layouts/")

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

    def pictures(layout_generator, spade_generator):
        return scenes_sheet([(layout_generator, spade_generator)], store)

    return train(config, store, networks, folder, origin, device, pictures, score, stages)


def rebuild_networks(records: dict, vgg, device) -> Networks:
    """Rebuilds a checkpoint's networks by itself: the files of stages 1 and 2 may be gone."""
    networks = {name: checkpoint.rebuild(FINETUNE.networks[name], record, device) for name, record in records.items()}
    return Networks(**networks, vgg=vgg)


def starting_point(config, store):
    """The newest or the named checkpoints of stages 1 and 2: settings that name them, their paths, their contents (as
    {"layout": ..., "spade": ...})."""
    weights = Path(config.weights)
    layout_path = checkpoint.newest(weights / config.layout_name, LAYOUT_GAN.prefix, config.pro_iter, "pro_iter")
    spade_path = checkpoint.newest(weights / config.spade_name, SPADE.prefix, config.spade_epoch, "spade_epoch")
    layout, spade = checkpoint.load(layout_path, LAYOUT_GAN.name), checkpoint.load(spade_path, SPADE.name)
    check_fit(layout, layout_path, spade, spade_path)
    check_store(spade["data"], spade_path, store, config.store)
    check_augmentation(config.augment, spade.get("config", {}).get("critic", "patch"))
    if rank() == 0:
        print(f"starting from {layout_path} and {spade_path}")
    started = {"pro_iter": checkpoint.number_of(layout_path), "spade_epoch": checkpoint.number_of(spade_path)}
    if config.layout_loss is None:  # a critic goes on with the loss that it was trained with
        started["layout_loss"] = layout.get("config", {}).get("loss")
    paths = {"layout": str(layout_path), "spade": str(spade_path)}
    return replace(config, **started), paths, {"layout": layout, "spade": spade}


def continued(config, saved: dict):
    """Settings and origin of a run that goes on: what was not asked for is not the latest but the run's."""
    names = [key for key in ("pro_iter", "spade_epoch", "layout_loss") if getattr(config, key) is None]
    return replace(config, **{key: saved["config"].get(key) for key in names}), saved["origin"]


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(FinetuneSettings, arguments, "SBGAN.train_finetune_end2end", __doc__))
    if rank() == 0:
        print(f"joined model saved to {path}")


if __name__ == "__main__":
    main()
