r"""python -m SBGAN.train_finetune_end2end: stage 3, both generators joined.

Examples:
    python -m SBGAN.train_finetune_end2end --store packed/camvid --name joined --layout_name camvid_layout \
        --spade_name camvid_spade
    python -m SBGAN.train_finetune_end2end --store packed/camvid --name spade_alone --layout_name camvid_layout \
        --spade_name camvid_spade --no_train_layout
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datasets.errors import UserError, exit_on_user_error
from datasets.packed import open_store
from SBGAN.evaluation.scenes import score_scenes
from SBGAN.joint_stage import Networks, train
from SBGAN.losses import LOSSES
from SBGAN.model import FINETUNE, LAYOUT_GAN, SPADE_STAGE, check_fit, draw_layouts
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.train_progressive_seg import LayoutLosses
from SPADE.augmentation import parse_kinds
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import check_store, data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.config import RunSettings, SeenByCritics, check_batch, harmless, require, setting
from SPADE.engine.device import pick, place, seed_everything
from SPADE.engine.distributed import join_processes, rank
from SPADE.engine.images import colour_layouts, enlarge, render, sheet, spread_pairs
from SPADE.engine.run_folder import RunFolder
from SPADE.evaluation.features import ImageScores
from SPADE.evaluation.scores import flat_scores, make_evaluation, record_in_training, score_real_layouts
from SPADE.networks import (
    MultiscaleDiscriminator,
    SegmentationCritic,
    SPADEGenerator,
    StyleEncoder,
    conditional_critic,
    without_semantics,
)
from SPADE.train import RealPairLosses, check_augmentation, perceptual_network

DRAWN = ("sampled", "argmax")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(ImageScores, RealPairLosses, LayoutLosses, SeenByCritics, RunSettings):
    layout_name: str = setting(help="stage 1's checkpoints are in WEIGHTS/LAYOUT_NAME")
    spade_name: str = setting(help="stage 2's checkpoints are in WEIGHTS/SPADE_NAME")
    pro_iter: int | None = setting(None, "stage 1's iteration to start from; default the latest", at_least=0)
    spade_epoch: int | None = setting(None, "stage 2's epoch to start from; default the latest", at_least=0)

    batch_size: int = setting(8, "over all processes", at_least=1)
    niter: int = setting(50, "epochs at the full learning rate", at_least=0)
    niter_decay: int = setting(50, "further epochs, SPADE's and D2's learning rate linearly to 0", at_least=0)
    pretrain_epochs: int = setting(1, "epochs that D2 is trained alone before", at_least=0)
    warm_D2: bool = setting(False, "D2 begins as a copy of stage 2's patch critic, the weights for classes left out")
    lr: float = setting(2e-4, "Adam of D2 and of SPADE (generator half, discriminator twice of it)", at_least=0)
    lr_pgan: float = setting(1e-5, "Adam of the layout GAN; does not decay", at_least=0)
    layout_grad: str = setting(
        "stem", "the image's gradient enters the layout by SPADE's stem (released), or in full", ("stem", "full")
    )
    drawn_layouts: str = setting(
        "sampled", "drawn for D2: the samples of the layouts' critic (released), or the likeliest classes", DRAWN
    )
    train_layout: bool = setting(True, "--no_train_layout: SPADE alone learns, on generated and real layouts")
    train_spade: bool = setting(True, "--no_train_spade: the layout generator alone learns")

    lambda_pgan: float = setting(10.0, "weight of the layouts' loss", at_least=0)
    lambda_D2: float = setting(0.1, "weight of the unconditional image discriminator D2", at_least=0)
    layout_loss: str | None = setting(None, "loss of the layouts; default: that of stage 1", LOSSES)

    save_every: int = harmless(5, "epochs between checkpoints; 0: only the last, which is always saved", at_least=0)
    evaluate_every: int = harmless(5, "epochs between scores; 0: never", at_least=0)


def check_finetune(config, store):
    """Refuses what cannot work, before anything is read or built. Raises UserError."""
    check_batch(config.batch_size, config, len(store["train"]))
    parse_kinds(config.augment)
    epochs = config.niter + config.niter_decay
    require(epochs > 0, "niter", config.niter, "positive, with --niter_decay", "raise one of them")
    require(
        config.train_layout or config.train_spade,
        "no_train_layout",
        "given with --no_train_spade",
        "given alone, if at all",
        "leave one of them out",
    )


def run(config: FinetuneSettings) -> Path:
    # --- What can be refused is refused before anything is built ---
    store = open_store(config.store)
    check_finetune(config, store)
    device = join_processes(pick(config.device))
    check_compiler(config.compile, device)
    folder = RunFolder(config, FINETUNE.prefix, FINETUNE.name)
    if folder.saved:
        config, origin = continued(config, folder.saved.content)
        stages = None
    else:
        config, origin, stages = starting_point(config, store)

    # --- Pretrained networks, scores ---
    vgg = perceptual_network(config, device)
    evaluation = make_evaluation(config, store, device, store.height) if config.evaluate_every else None

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
        networks = pretrained_networks(stages["layout"], stages["spade"], config, vgg, device)

    def pictures(layout_generator, spade_generator):
        return scenes_sheet([(layout_generator, spade_generator)], store)

    return train(config, store, networks, folder, origin, device, pictures, score, stages)


def scenes_sheet(pairs, store, seed: int = 0, num: int = 8):
    """One picture uint8 [3,...] of pairs (layout generator, SPADE generator), of which either may be None.

    For each pair layouts from noise above their images; then real layouts, the last SPADE's images of them, and the
    real images.
    """
    colours = torch.from_numpy(store.label_space.colours)
    seeds = range(seed, seed + num)

    def shown(layouts):
        return enlarge(colour_layouts(layouts, colours), store.height, store.width)

    rows = []
    for layout_generator, spade_generator in pairs:
        if layout_generator is not None:
            layouts = draw_layouts(layout_generator, seeds)
            rows.append(shown(layouts))
            if spade_generator is not None:
                rows.append(render(spade_generator, layouts, seeds))
    images, labels = spread_pairs(store[store.reference], num)
    rows.append(shown(labels))
    if pairs and pairs[-1][1] is not None:
        rows.append(render(pairs[-1][1], labels, range(seed, seed + len(labels))))
    return sheet([*rows, images])


def pretrained_networks(layout: dict, spade: dict, config: FinetuneSettings, vgg, device) -> Networks:
    """Every network of stage 3, from the contents of the checkpoints of stages 1 and 2; D2 alone is new, or with
    --warm_D2 a copy of SPADE's critic.

    A generator that goes on learning has its last weights: its critic was trained against those, and is thrown by their
    average. One that does not learn is its average, which stages 1 and 2 are scored by.
    """
    a, b = layout["networks"], spade["networks"]
    for name, found in (("stage 1", a), ("stage 2", b)):
        if "discriminator" not in found:
            raise UserError(f"the checkpoint of {name} has no discriminator; import it with that, or train {name}")
    conditional = checkpoint.rebuild(conditional_critic, b["discriminator"], device)
    averaged = not config.train_spade
    return Networks(
        layout_generator=checkpoint.rebuild(LayoutGenerator, a["generator"], device, averaged=not config.train_layout),
        layout_discriminator=checkpoint.rebuild(ProgressiveDiscriminator, a["discriminator"], device),
        spade_generator=checkpoint.rebuild(SPADEGenerator, b["generator"], device, averaged),
        image_discriminator=conditional,
        image_discriminator_2=place(second_discriminator(conditional, config.warm_D2), device),
        encoder=checkpoint.rebuild(StyleEncoder, b["encoder"], device, averaged) if "encoder" in b else None,
        vgg=vgg,
    )


def second_discriminator(conditional, warm: bool) -> MultiscaleDiscriminator:
    """D2, of stage 2's critic's sizes; warm: with its weights, too."""
    if warm:
        return without_semantics(conditional)
    if isinstance(conditional, SegmentationCritic):
        return MultiscaleDiscriminator(3, conditional.arguments["widths"][0] // 2)
    return MultiscaleDiscriminator(3, conditional.arguments["channels"], conditional.arguments["strides"])


def rebuild_networks(records: dict, vgg, device) -> Networks:
    """Rebuilds a checkpoint's networks by itself: the files of stages 1 and 2 may be gone."""
    networks = {name: checkpoint.rebuild(FINETUNE.networks[name], record, device) for name, record in records.items()}
    return Networks(**networks, vgg=vgg)


def starting_point(config, store):
    """The newest or the named checkpoints of stages 1 and 2: settings that name them, their paths, their contents (as
    {"layout": ..., "spade": ...})."""
    weights = Path(config.weights)
    layout_path = checkpoint.newest(weights / config.layout_name, LAYOUT_GAN.prefix, config.pro_iter, "pro_iter")
    spade_path = checkpoint.newest(weights / config.spade_name, SPADE_STAGE.prefix, config.spade_epoch, "spade_epoch")
    layout, spade = checkpoint.load(layout_path, LAYOUT_GAN.name), checkpoint.load(spade_path, SPADE_STAGE.name)
    check_fit(layout, layout_path, spade, spade_path)
    check_store(spade["data"], spade_path, store, config.store)
    critic = spade.get("config", {}).get("critic", "patch")
    check_augmentation(config.augment, critic)
    fits = critic == "patch" or not config.warm_D2
    require(fits, "warm_D2", f"given beside stage 2's {critic} critic", "given with a patch critic",
            "pass --no_warm_D2 where a recipe gives it")  # fmt: skip
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
