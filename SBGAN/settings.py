"""Settings of stages 1 and 3. Numbers of a data set stand in its scripts/<data set>/settings.sh."""

from dataclasses import dataclass

from SBGAN.losses import LOSSES
from SBGAN.networks import PIXEL_NORMS
from SPADE.augmentation import parse_kinds
from SPADE.engine.config import RunSettings, WarmStart, check_batch, harmless, require, setting
from SPADE.settings import ImageScores, RealPairLosses

DRAWN = ("sampled", "argmax")


@dataclass(frozen=True, kw_only=True)
class ToldShares:
    """Weights of the losses of a layout generator that is told class shares (stage 1 with --class_shares)."""

    lambda_shares: float = setting(3.0, "weight of the class shares' distance to those told", at_least=0)
    lambda_entropy: float = setting(0.1, "weight of the layouts' entropy beside it", at_least=0)


@dataclass(frozen=True, kw_only=True)
class LayoutSettings(ToldShares, WarmStart, RunSettings):
    max_dim: int = setting(128, "height of the finest layouts", at_least=4, power_of_two=True)
    epochs: int = setting(100, "length of each phase (fade, stabilise) of each resolution", at_least=1)
    epochs_at: str = setting("", "where it differs: RESOLUTION:EPOCHS pairs such as 4:1; 0 leaves a resolution out")
    batch_size: int = setting(16, "over all processes", at_least=1)
    batch_sizes: str = setting("", "where it differs: RESOLUTION:BATCH pairs such as 256:4")
    lr: float = setting(1e-3, "Adam, both networks", above=0)
    reuse_fakes: bool = setting(False, "critics see the samples of the generators' descent, not new ones: fewer passes")
    loss: str = setting("wgan_gp", "Wasserstein with gradient penalty, or logistic (non-saturating) with R1", LOSSES)
    penalty_weight: float = setting(10.0, "of the gradient penalty, or of R1 (its gamma: 1 is usual)", at_least=0)
    penalty_every: int = setting(
        0,
        "steps between penalties, which weigh as many times more; 0: as published, 1 (wgan_gp) or 16 (r1)",
        at_least=0,
    )

    augment: str = setting("", "changes at random what the critic sees: some of color,translation,cutout")

    latent_dim: int = setting(512, "length of z", at_least=1)
    fmap_base: int = setting(8192, "block i has fmap_base / 2^(i+1) channels,", at_least=1)
    fmap_max: int = setting(512, "but never more than this", at_least=1)
    pixel_norm: str = setting("rms", "mean_square: without the root, as the released code", choices=tuple(PIXEL_NORMS))
    class_shares: bool = setting(False, "tell the generator which shares of the pixels the classes are to have")
    minibatch_stats: bool = setting(True, "minibatch standard deviation in the discriminator")
    temperature: float = setting(1.0, "of the Gumbel-softmax", above=0)
    floor: float = setting(
        0.0, "probability added inside the sampler's logarithm (released code: 1e-5)", at_least=0, at_most=1
    )

    picture_every: int = harmless(
        500, "iterations between pictures in the log beside those at the end of each phase; 0: none", at_least=0
    )
    evaluate_every: int = harmless(
        0, "iterations between scores beside those at the end of each phase; 0: none", at_least=0
    )
    save_every: int = harmless(
        5000, "iterations between checkpoints; 0: only the last, which is always saved", at_least=0
    )
    num_eval: int = harmless(500, "layouts of a score", at_least=2)


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(ImageScores, LayoutSettings):
    """The RGB baseline's: stage 1's, and how its images are scored."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(ImageScores, RealPairLosses, ToldShares, RunSettings):
    layout_name: str = setting(help="stage 1's checkpoints are in WEIGHTS/LAYOUT_NAME")
    spade_name: str = setting(help="stage 2's checkpoints are in WEIGHTS/SPADE_NAME")
    pro_iter: int | None = setting(None, "stage 1's iteration to start from; default the latest", at_least=0)
    spade_epoch: int | None = setting(None, "stage 2's epoch to start from; default the latest", at_least=0)

    batch_size: int = setting(8, "over all processes", at_least=1)
    niter: int = setting(50, "epochs at the full learning rate", at_least=0)
    niter_decay: int = setting(50, "further epochs, SPADE's and D2's learning rate linearly to 0", at_least=0)
    pretrain_epochs: int = setting(1, "epochs that D2 is trained alone before", at_least=0)
    reuse_fakes: bool = setting(False, "critics see the samples of the generators' descent, not new ones: fewer passes")
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
    penalty_weight: float = setting(10.0, "of the gradient penalty, or of R1, within the layouts' loss", at_least=0)
    penalty_every: int = setting(
        0,
        "steps between penalties, which weigh as many times more; 0: as published, 1 (wgan_gp) or 16 (r1)",
        at_least=0,
    )
    temperature: float = setting(1.0, "of the Gumbel-softmax", above=0)
    floor: float = setting(
        0.0, "probability added inside the sampler's logarithm (released code: 1e-5)", at_least=0, at_most=1
    )

    picture_every: int = harmless(500, "steps between pictures in the log; 0: only the first and the last", at_least=0)
    save_every: int = harmless(5, "epochs between checkpoints; 0: only the last, which is always saved", at_least=0)
    evaluate_every: int = harmless(5, "epochs between scores; 0: never", at_least=0)


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
