"""Settings of stage 2 and of programs that score. Numbers of a data set stand in its scripts/<data set>/settings.sh."""

from dataclasses import dataclass

from SPADE.augmentation import parse_kinds
from SPADE.engine.config import RunSettings, WarmStart, check_batch, harmless, require, setting
from SPADE.networks import INTERPOLATIONS, UPSAMPLINGS

CRITICS = ("patch", "segmentation")


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Flags of programs that score images, in training or after it."""

    num_eval: int = harmless(500, "images of a score", at_least=2)
    inception_weights: str | None = harmless(None, "file of the FID Inception; default: cache, else download")
    feature_extractor: str | None = harmless(
        None, "TorchScript or .pt2, uint8 [N,3,H,W] -> [N,D], instead of Inception"
    )
    fid: bool = harmless(True, "compute FID, KID, precision and recall (--no_fid: FSD and SWD only)")


@dataclass(frozen=True, kw_only=True)
class SegmenterFile:
    """The flags of programs that ask a segmentation network."""

    segmenter: str | None = setting(
        None, "segmentation network: a checkpoint of SBGAN.train_segmenter, or TorchScript or .pt2, "
        "uint8 [N,3,H,W] -> logits [N,K,h,w] or ids"
    )  # fmt: skip
    segmenter_ids: str | None = setting(
        None, "JSON list of the class's name for each of the segmenter's ids, null where there is none"
    )


@dataclass(frozen=True, kw_only=True)
class ScoringSettings(SegmenterFile, ImageScores):
    """Flags of every program that scores a checkpoint."""

    store: str | None = setting(None, "packed data set to score against; default the one it was trained on")
    results: str = setting("results", "folder of all scores and pictures; a run's are in RESULTS/NAME")
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    seed: int = setting(0, "of the first latent; sample i has seed + i", at_least=0)
    ema: bool = setting(True, "score the averages of the weights, where there are some (--no_ema: the last weights)")


@dataclass(frozen=True, kw_only=True)
class RealPairLosses:
    """The losses of SPADE's generator on real pairs, in stages 2 and 3."""

    lambda_feat: float = setting(10.0, "weight of feature matching", at_least=0)
    lambda_vgg: float = setting(10.0, "weight of the VGG-19 perceptual loss", at_least=0)
    lambda_kld: float = setting(0.05, "weight of the style encoder's KL divergence", at_least=0)
    augment: str = setting("", "changes at random what all critics see: some of color,translation,cutout")
    lambda_labelmix: float = setting(5.0, "weight of the segmentation critic's LabelMix", at_least=0)
    vgg_loss: bool = setting(True, "VGG-19 perceptual loss (--no_vgg_loss: without)")
    vgg_weights: str | None = harmless(None, "file of torchvision's VGG-19 weights; default: cache, else download")
    vgg_imagenet_normalisation: bool = setting(False, "normalise VGG's input (the published SPADE does not)")


@dataclass(frozen=True, kw_only=True)
class SpadeSettings(ImageScores, RealPairLosses, WarmStart, RunSettings):
    batch_size: int = setting(24, "over all processes", at_least=1)
    niter: int = setting(100, "epochs at the full learning rate", at_least=0)
    niter_decay: int = setting(100, "further epochs, learning rate linearly to 0", at_least=0)
    lr: float = setting(2e-4, "Adam; the generator gets half of it, the discriminator twice (TTUR)", above=0)
    reuse_fakes: bool = setting(False, "critics see the samples of the generators' descent, not new ones: fewer passes")

    ngf: int = setting(64, "generator channels at its last block but one", at_least=1)
    init_gain: float = setting(0.02, "of the generator's first weights; about 1 for a training of minutes", above=0)
    hidden: int = setting(128, "hidden channels of each modulation", at_least=1)
    upsampling: str = setting("normal", "doublings from the start to the image", choices=tuple(UPSAMPLINGS))
    interpolation: str = setting(
        "nearest",
        "of what is doubled: nearest, as published, or bilinear, against lines along the coarse grid",
        INTERPOLATIONS,
    )
    noise: bool = setting(
        False, "fixed noise in the generator's blocks, of learned strength, for textures of large areas"
    )
    critic: str = setting(
        "patch", "judges patches, or (segmentation) which class each pixel shows, without feature matching", CRITICS
    )
    ndf: int = setting(64, "discriminator channels of the first layer", at_least=1)
    d_layers: int = setting(4, "layers of each patch discriminator before its score", at_least=2)
    d_last_stride: int = setting(1, "stride of the last of them: 1 as SPADE published, 2 as in SB-GAN's fork", (1, 2))
    use_vae: bool = setting(False, "style encoder: the generator starts from the style of the image")
    style_dim: int = setting(256, "length of the style vector", at_least=1)

    picture_every: int = harmless(500, "steps between pictures in the log; 0: only the first and the last", at_least=0)
    save_every: int = harmless(10, "epochs between checkpoints; 0: only the last, which is always saved", at_least=0)
    evaluate_every: int = harmless(10, "epochs between scores; 0: never", at_least=0)

    @property
    def d_strides(self):
        return (2,) * (self.d_layers - 1) + (self.d_last_stride,)


def check(config, store):
    """Refuses what cannot work, before anything is built. Raises UserError."""
    check_batch(config.batch_size, config, len(store["train"]))
    check_image_size(store, config.upsampling, config.store)
    require(config.niter + config.niter_decay > 0, "niter", config.niter, "positive with --niter_decay", "raise one")
    check_augmentation(config.augment, config.critic)


def check_augmentation(augment: str, critic: str):
    """critic: one of CRITICS, that of stage 2."""
    fits = not parse_kinds(augment) or critic != "segmentation"
    wanted = "left out beside stage 2's segmentation critic, which has no class for what comes from outside an image"
    require(fits, "augment", augment, wanted, "leave it out, or take --critic patch in stage 2")


def check_image_size(store, upsampling, path):
    unit = 2 ** UPSAMPLINGS[upsampling]
    require(
        store.height % unit == 0 and store.width % unit == 0,
        "upsampling",
        upsampling,
        f"such that 2^{UPSAMPLINGS[upsampling]} divides the {store.height}x{store.width} images of {path}",
        "take another upsampling, or prepare the store at another size",
    )


def check_samples(config: ScoringSettings, sets: int = 1):
    """Raises UserError."""
    last = config.seed + sets * config.num_eval
    require(last < 2**63, "seed", config.seed, "below 2^63 with all samples", "lower it")
