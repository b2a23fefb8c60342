"""python -m SBGAN.train_progressive_seg: stage 1, the layout GAN.

Examples:
    python -m SBGAN.train_progressive_seg --store packed/camvid --name camvid_layout --max_dim 32 --epochs 8
    torchrun --nproc_per_node 4 -m -- SBGAN.train_progressive_seg --store packed/ade --name ade_layout --batch_size 36
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.labels import one_hot
from datasets.packed import open_store
from datasets.reader import Reader, layouts_in_order
from SBGAN import discretize
from SBGAN.evaluation.scenes import score_layouts
from SBGAN.layout_stage import SHOWN, Domain, Phase, make_phases, parse_by_resolution, train
from SBGAN.losses import LOSSES, layout_entropy
from SBGAN.model import LAYOUT_GAN, draw_layouts
from SBGAN.networks import PIXEL_NORMS, LayoutGenerator, ProgressiveDiscriminator
from SPADE.augmentation import parse_kinds
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.config import RunSettings, SeenByCritics, WarmStart, check_batch, harmless, require, setting
from SPADE.engine.device import Ahead, pick, place, seed_everything
from SPADE.engine.distributed import join_processes, rank, world_size
from SPADE.engine.images import colour_layouts, square_sheet, visible
from SPADE.evaluation.scores import flat_scores, make_evaluation, record_in_training

# The layers that see classes or score them, and the axis of their weights that counts these, for a warm start.
CLASS_AXES = {r"generator\.heads\.\d+": 0, r"discriminator\.inputs\.\d+": 1}
MOST_COMPONENTS, LAYOUTS_PER_COMPONENT = 8, 8  # of the mixture of class shares: the latter at least


@dataclass(frozen=True, kw_only=True)
class LayoutLosses:
    """The sampler and the losses of layouts, in stages 1 and 3."""

    temperature: float = setting(1.0, "of the Gumbel-softmax", above=0)
    floor: float = setting(
        0.0, "probability added inside the sampler's logarithm (released code: 1e-5)", at_least=0, at_most=1
    )
    penalty_weight: float = setting(10.0, "of the gradient penalty, or of R1 (its gamma: 1 is usual)", at_least=0)
    penalty_every: int = setting(
        0,
        "steps between penalties, which weigh as many times more; 0: as published, 1 (wgan_gp) or 16 (r1)",
        at_least=0,
    )
    lambda_shares: float = setting(3.0, "with --class_shares: weight of the shares' distance to those told", at_least=0)
    lambda_entropy: float = setting(0.1, "with --class_shares: weight of the layouts' entropy", at_least=0)


@dataclass(frozen=True, kw_only=True)
class LayoutSettings(LayoutLosses, SeenByCritics, WarmStart, RunSettings):
    max_dim: int = setting(128, "height of the finest layouts", at_least=4, power_of_two=True)
    epochs: int = setting(100, "length of each phase (fade, stabilise) of each resolution", at_least=1)
    epochs_at: str = setting("", "where it differs: RESOLUTION:EPOCHS pairs such as 4:1; 0 leaves a resolution out")
    batch_size: int = setting(16, "over all processes", at_least=1)
    batch_sizes: str = setting("", "where it differs: RESOLUTION:BATCH pairs such as 256:4")
    lr: float = setting(1e-3, "Adam, both networks", above=0)
    loss: str = setting("wgan_gp", "Wasserstein with gradient penalty, or logistic (non-saturating) with R1", LOSSES)

    latent_dim: int = setting(512, "length of z", at_least=1)
    fmap_base: int = setting(8192, "block i has fmap_base / 2^(i+1) channels,", at_least=1)
    fmap_max: int = setting(512, "but never more than this", at_least=1)
    pixel_norm: str = setting("rms", "mean_square: without the root, as the released code", choices=tuple(PIXEL_NORMS))
    class_shares: bool = setting(False, "tell the generator which shares of the pixels the classes are to have")
    minibatch_stats: bool = setting(True, "minibatch standard deviation in the discriminator")

    evaluate_every: int = harmless(
        0, "iterations between scores beside those at the end of each phase; 0: none", at_least=0
    )
    save_every: int = harmless(
        5000, "iterations between checkpoints; 0: only the last, which is always saved", at_least=0
    )
    num_eval: int = harmless(500, "layouts of a score", at_least=2)


def check_layout(config, store, batch_sizes, epochs_at):
    """Refuses what cannot work, before anything is built. Raises UserError."""
    require(
        config.max_dim <= store.height,
        "max_dim",
        config.max_dim,
        f"at most {store.height}, the height of {config.store}",
        "pass a smaller one, or prepare a larger store",
    )
    require(store.aspect in (1, 2), "store", config.store, "of aspect 1 or 2", "prepare it with --width H or 2*H")
    for resolution, epochs in epochs_at.items():
        wanted = "pairs of a resolution from 4 to --max_dim (which is not left out) and epochs from 0"
        fits = resolution in [4 << i for i in range(config.max_dim.bit_length() - 2)] and epochs >= 0
        fits = fits and (epochs > 0 or resolution < config.max_dim)
        require(fits, "epochs_at", config.epochs_at, wanted, "mend the flag")
    for resolution, batch in batch_sizes.items():
        fits = resolution >= 4 and resolution & (resolution - 1) == 0 and batch >= 1
        wanted = "pairs of a resolution, a power of two from 4, and a batch from 1"
        require(fits, "batch_sizes", config.batch_sizes, wanted, "mend the flag")
    parse_kinds(config.augment)
    if config.class_shares:
        fewest = store.label_space.num_classes + 2
        require(config.latent_dim >= fewest, "latent_dim", config.latent_dim, f"at least {fewest} with --class_shares",
                "raise it: so many entries draw the shares")  # fmt: skip
        require(config.start_from is None, "class_shares", f"given beside --from {config.start_from}", "given alone",
                "the shares told are this store's: train anew")  # fmt: skip
    for batch in (config.batch_size, *batch_sizes.values()):
        check_batch(batch, config, len(store["train"]))


def plan_phases(config: LayoutSettings, store) -> list[Phase]:
    """The phases that the flags ask for; what cannot work is refused. Raises UserError."""
    batch_sizes = parse_by_resolution(config.batch_sizes, "batch_sizes")
    epochs_at = parse_by_resolution(config.epochs_at, "epochs_at")
    check_layout(config, store, batch_sizes, epochs_at)
    epoch_images = store["train"].draws_per_epoch
    return make_phases(config.max_dim, epoch_images, config.epochs, config.batch_size, batch_sizes, epochs_at)


def sizes(config: LayoutSettings, store) -> dict:
    """The arguments that generator and discriminator have in common."""
    return dict(
        aspect=store.aspect, max_resolution=config.max_dim, fmap_base=config.fmap_base, fmap_max=config.fmap_max
    )


def make_generator(config: LayoutSettings, store) -> LayoutGenerator:
    """A new generator; with --class_shares its mixture is fitted to the training layouts' class shares."""
    split, num_classes = store["train"], store.label_space.num_classes
    generator = LayoutGenerator(
        num_classes,
        latent_dim=config.latent_dim,
        pixel_norm=config.pixel_norm,
        share_components=components_for(len(split)) if config.class_shares else 0,
        **sizes(config, store),
    )
    if config.class_shares:
        fit_shares(generator.blocks[0].told, split, config.max_dim)
    return generator


def components_for(num_layouts: int) -> int:
    """Components of the mixture that class shares are drawn from."""
    return max(1, min(MOST_COMPONENTS, num_layouts // LAYOUTS_PER_COMPONENT))


def fit_shares(mixture: discretize.ShareMixture, split, height: int):
    """Fits the mixture to the class shares of a split's layouts, read at this height."""
    num_classes = mixture.means.shape[1]
    parts = [layouts_in_order(split, i, min(i + 256, len(split)), height) for i in range(0, len(split), 256)]
    mixture.fit(torch.cat([discretize.class_proportions(part, num_classes) for part in parts]))


def layout_domain(config, store, device) -> Domain:
    """Layouts: one-hot real ones, straight-through samples of generated ones."""
    reader = Reader(store["train"], config.seed, rank(), world_size())
    read = Ahead(lambda *batch: [reader.layouts(*batch)], device)
    evaluation = make_evaluation(config, store, device, height=None)
    num_classes = store.label_space.num_classes

    def real(images_seen, batch_size, resolution):
        (labels,) = read(images_seen, batch_size, resolution)  # uint8 [n,1,h,w]
        return one_hot(labels, num_classes)  # float [n,C,h,w]

    def noise(num, resolution):
        return discretize.exponential_noise((num, num_classes, resolution, resolution * store.aspect), device)

    def sample(log_probabilities, noise):
        return discretize.straight_through(log_probabilities, config.temperature, config.floor, noise)

    def statistics(log_probabilities):
        return {"layout_entropy": layout_entropy(log_probabilities)}

    def pictures(generator, resolution, alpha):
        layouts = draw_layouts(generator, range(SHOWN), resolution, alpha)
        return square_sheet(visible(colour_layouts(layouts, torch.from_numpy(store.label_space.colours))))

    def evaluate(generator, resolution, alpha, images_seen):
        row = score_layouts(generator, evaluation, resolution, alpha)
        record_in_training({"generated": row}, images_seen, config, evaluation, resolution=resolution, alpha=alpha)
        return flat_scores(row)

    return Domain(
        LAYOUT_GAN.name,
        LAYOUT_GAN.prefix,
        real,
        noise,
        sample,
        image_channels=0,
        statistics=statistics,
        pictures=pictures,
        evaluate=evaluate,
        class_axes=CLASS_AXES,
    )


def run(config: LayoutSettings) -> Path:
    store = open_store(config.store)
    phases = plan_phases(config, store)
    device = join_processes(pick(config.device))
    check_compiler(config.compile, device)
    seed_everything(config.seed)
    generator = make_generator(config, store)
    discriminator = ProgressiveDiscriminator(
        store.label_space.num_classes, minibatch_stats=config.minibatch_stats, **sizes(config, store)
    )
    networks = place(generator, device), place(discriminator, device)
    return train(config, phases, data_record(store), *networks, layout_domain(config, store, device), device)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(LayoutSettings, arguments, "SBGAN.train_progressive_seg", __doc__))
    if rank() == 0:
        print(f"layout GAN saved to {path}")


if __name__ == "__main__":
    main()
