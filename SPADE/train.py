"""python -m SPADE.train: stage 2, SPADE learns to draw the photograph of a real layout (Park et al., CVPR 2019).

Examples:
    python -m SPADE.train --store packed/camvid --name camvid_spade --batch_size 4 --no_vgg_loss
    torchrun --nproc_per_node 8 -m -- SPADE.train --store packed/cityscapes --name cityscapes_spade --upsampling more
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from datasets.reader import Reader
from SPADE import augmentation
from SPADE.engine import config as settings
from SPADE.engine import loop
from SPADE.engine.checkpoint import data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.config import RunSettings, SeenByCritics, WarmStart, check_batch, harmless, require, setting
from SPADE.engine.device import Ahead, evaluating, pick, place, seed_everything
from SPADE.engine.distributed import join_processes, rank, world_size
from SPADE.engine.images import colour_layouts, from_uint8, render, sheet, spread_pairs
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState, averaged_copy
from SPADE.engine.step import adam, frozen, in_epochs, micro_batches
from SPADE.evaluation.features import ImageScores
from SPADE.evaluation.scores import flat_scores, make_evaluation, record_in_training, score_real_layouts
from SPADE.losses import VGG19Features, Weights, balance_for, discriminator_losses, draw_noise, generator_losses
from SPADE.networks import (
    INTERPOLATIONS,
    UPSAMPLINGS,
    MultiscaleDiscriminator,
    SegmentationCritic,
    SPADEGenerator,
    StyleEncoder,
    segmentation_widths,
)
from SPADE.pretrained import vgg19_weights

STAGE, PREFIX = "spade", "spade"
CRITICS = ("patch", "segmentation")


@dataclass(frozen=True, kw_only=True)
class RealPairLosses:
    """The losses of SPADE's generator on real pairs, in stages 2 and 3."""

    lambda_feat: float = setting(10.0, "weight of feature matching", at_least=0)
    lambda_vgg: float = setting(10.0, "weight of the VGG-19 perceptual loss", at_least=0)
    lambda_kld: float = setting(0.05, "weight of the style encoder's KL divergence", at_least=0)
    lambda_labelmix: float = setting(5.0, "weight of the segmentation critic's LabelMix", at_least=0)
    vgg_loss: bool = setting(True, "VGG-19 perceptual loss (--no_vgg_loss: without)")
    vgg_weights: str | None = harmless(None, "file of torchvision's VGG-19 weights; default: cache, else download")
    vgg_imagenet_normalisation: bool = setting(False, "normalise VGG's input (the published SPADE does not)")


@dataclass(frozen=True, kw_only=True)
class SpadeSettings(ImageScores, RealPairLosses, SeenByCritics, WarmStart, RunSettings):
    batch_size: int = setting(24, "over all processes", at_least=1)
    niter: int = setting(100, "epochs at the full learning rate", at_least=0)
    niter_decay: int = setting(100, "further epochs, learning rate linearly to 0", at_least=0)
    lr: float = setting(2e-4, "Adam; the generator gets half of it, the discriminator twice (TTUR)", above=0)

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
    move_noise: bool = setting(False, "while it learns, this noise begins at another place for each image")
    critic: str = setting(
        "patch", "judges patches, or (segmentation) which class each pixel shows, without feature matching", CRITICS
    )
    ndf: int = setting(64, "discriminator channels of the first layer", at_least=1)
    d_layers: int = setting(4, "layers of each patch discriminator before its score", at_least=2)
    d_last_stride: int = setting(1, "stride of the last of them: 1 as SPADE published, 2 as in SB-GAN's fork", (1, 2))
    use_vae: bool = setting(False, "style encoder: the generator starts from the style of the image")
    style_dim: int = setting(256, "length of the style vector", at_least=1)

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
    fits = config.noise or not config.move_noise
    require(fits, "move_noise", "given without --noise", "given with it", "pass both, or neither")
    check_augmentation(config.augment, config.critic)


def check_augmentation(augment: str, critic: str):
    """critic: one of CRITICS, that of stage 2."""
    fits = not augmentation.parse_kinds(augment) or critic != "segmentation"
    wanted = "left out beside stage 2's segmentation critic, which has no class for what comes from outside an image"
    require(fits, "augment", augment, wanted, "pass --augment= where a recipe gives it, or --critic patch in stage 2")


def check_image_size(store, upsampling, path):
    unit = 2 ** UPSAMPLINGS[upsampling]
    require(
        store.height % unit == 0 and store.width % unit == 0,
        "upsampling",
        upsampling,
        f"such that 2^{UPSAMPLINGS[upsampling]} divides the {store.height}x{store.width} images of {path}",
        "take another upsampling, or prepare the store at another size",
    )


def make_networks(config: SpadeSettings, store, device) -> dict:
    """Generator, discriminator and, with --use_vae, the style encoder, by name."""
    num_classes = store.label_space.num_classes
    networks = {
        "generator": SPADEGenerator(
            num_classes,
            store.height,
            store.width,
            channels=config.ngf,
            upsamplings=UPSAMPLINGS[config.upsampling],
            hidden=config.hidden,
            style_dim=config.style_dim if config.use_vae else 0,
            interpolation=config.interpolation,
            noise=config.noise,
            moving_noise=config.move_noise,
            gain=config.init_gain,
        ),
    }
    if config.critic == "segmentation":
        networks["discriminator"] = SegmentationCritic(num_classes, segmentation_widths(config.ndf, store.height))
    else:
        networks["discriminator"] = MultiscaleDiscriminator(num_classes + 3, config.ndf, config.d_strides)
    if config.use_vae:
        networks["encoder"] = StyleEncoder(config.ngf, config.style_dim)
    return {name: place(network, device) for name, network in networks.items()}


def class_axes(generator: SPADEGenerator) -> dict[str, int]:
    """The layers that see classes or score them, and the axis of their weights that counts these, for a warm start."""
    axes = {r"generator\..*\.shared": 1, r"discriminator\.scales\.\d+\.first": 1, r"discriminator\.last": 0}
    return axes if generator.style_dim else axes | {r"generator\.stem": 1}  # else the start is that of a style


def perceptual_network(config, device):
    """VGG-19, or None where --no_vgg_loss says so. Raises UserError where its weights can't be had."""
    if not config.vgg_loss:
        return None
    path = vgg19_weights(config.vgg_weights)
    return VGG19Features(path, imagenet_normalisation=config.vgg_imagenet_normalisation).to(device)


def train(config: SpadeSettings, store, device, vgg, score) -> Path:
    """Trains for niter + niter_decay epochs; returns the last checkpoint's path.

    vgg: perceptual feature network or None; score: (generator, images seen) -> {score name: value}.
    """
    # --- What there is already ---
    epoch_images = store["train"].draws_per_epoch
    folder = RunFolder(config, PREFIX, STAGE)
    folder.begin(
        config,
        data_record(store),
        constant_images=lambda config: config.niter * epoch_images,
        start_from=config.start_from,
    )

    # --- Networks, optimisers ---
    networks = make_networks(config, store, device)
    generator, discriminator, encoder = (networks.get(name) for name in ("generator", "discriminator", "encoder"))
    drawing = {name: network for name, network in networks.items() if network is not discriminator}
    trained = [p for network in drawing.values() for p in network.parameters()]
    beta2 = 0.999 if config.critic == "segmentation" else 0.9  # as each was published
    optimizers = {"generator": adam(trained, beta2), "discriminator": adam(discriminator.parameters(), beta2)}
    rates = {"generator": (config.lr / 2, True), "discriminator": (config.lr * 2, True)}  # TTUR
    averages = {name: averaged_copy(network) for name, network in drawing.items() if config.ema}
    state = TrainingState(networks, optimizers, averages)
    folder.start_warm(state, class_axes(generator))

    # --- One step ---
    read = Ahead(Reader(store["train"], config.seed, rank(), world_size()).pairs, device)
    # SPADE sums the divergence over the batch, where all else is a mean.
    weights = Weights(config.lambda_feat, config.lambda_vgg, config.lambda_kld * config.batch_size)

    kinds = augmentation.parse_kinds(config.augment)

    def critic(noise):
        return augmentation.augmented(discriminator, noise["augmentation"], image_channels=3)

    def generator_terms(kept, balance, labels, images, noise):
        drawn = noise["encoder"], vgg, kept, noise["offsets"], balance
        return generator_losses(generator, critic(noise), labels, images, weights, encoder, *drawn)

    def discriminator_terms(balance, labels, images, noise, fake):
        drawn = noise["encoder"], noise["real_classes"], config.lambda_labelmix, fake, noise["offsets"], balance
        return discriminator_losses(generator, critic(noise), labels, images, encoder, *drawn)

    def update(step, descend):
        # --- Data and noise: this process's n of the batch ---
        images, labels = read(step.images_seen, step.batch_size)  # uint8 [n,3,H,W], [n,1,H,W]
        images = from_uint8(images)  # in [-1,1]
        noise = draw_noise(generator, discriminator, len(images), device, kinds)
        balance = balance_for(discriminator, labels)

        # --- Generator, and the encoder with it ---
        with frozen(discriminator):
            parts = micro_batches(config.micro_batch, labels, images, noise)
            kept = [] if config.reuse_fakes else None  # its images, part by part
            losses = descend(partial(generator_terms, kept, balance), parts, optimizers["generator"], kind="generator/")

        # --- Discriminator, on images drawn anew unless those are to serve ---
        fake = torch.cat(kept) if kept else None
        noise = draw_noise(generator, discriminator, len(images), device, kinds)
        parts = micro_batches(config.micro_batch, labels, images, noise, fake)
        terms = partial(discriminator_terms, balance)
        return losses | descend(terms, parts, optimizers["discriminator"], kind="discriminator/")

    training = loop.Training(
        total=(config.niter + config.niter_decay) * epoch_images,
        state=state,
        schedule=lambda images_seen: in_epochs(images_seen, config, epoch_images, rates),
        update=update,
        pictures=lambda step: {
            "layout_generated_real": pictures(state.shown("generator"), store, device, state.shown("encoder"))
        },
        evaluate=lambda step: score(state.shown("generator"), state.images_seen),
    )
    return loop.train(config, folder, training, device)


def pictures(generator, store, device, encoder=None, num: int = 8):
    """Layouts, images drawn from them, real images, one below the other: uint8 [3,...]. From the reference split."""
    images, labels = spread_pairs(store[store.reference], num)
    style = None
    if encoder:
        with evaluating(encoder):
            style = encoder(from_uint8(images.to(device)))[0]
    drawn = render(generator, labels, range(len(labels)), style)
    return sheet([colour_layouts(labels, torch.from_numpy(store.label_space.colours)), drawn, images])


def run(config: SpadeSettings) -> Path:
    store = open_store(config.store)
    check(config, store)
    device = join_processes(pick(config.device))
    check_compiler(config.compile, device)
    vgg = perceptual_network(config, device)
    evaluation = make_evaluation(config, store, device, store.height) if config.evaluate_every else None

    def score(generator, images_seen):
        row = score_real_layouts(generator, evaluation)
        record_in_training({"real layouts": row}, images_seen, config, evaluation)
        return flat_scores(row, "score_real_layouts/")

    seed_everything(config.seed)
    return train(config, store, device, vgg, score)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(SpadeSettings, arguments, "SPADE.train", __doc__))
    if rank() == 0:
        print(f"SPADE saved to {path}")


if __name__ == "__main__":
    main()
