"""python -m SPADE.train: stage 2, SPADE learns to draw the photograph of a real layout (Park et al., CVPR 2019).

Examples:
    python -m SPADE.train --store packed/camvid --name camvid_spade --batch_size 4 --no_vgg_loss
    torchrun --nproc_per_node 8 -m -- SPADE.train --store packed/cityscapes --name cityscapes_spade --upsampling more
"""

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
from SPADE.engine.device import Ahead, evaluating, pick, place, seed_everything
from SPADE.engine.distributed import rank, start, world_size
from SPADE.engine.images import colour_layouts, from_uint8, render, sheet, spread_pairs
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState, averaged_copy
from SPADE.engine.step import adam, frozen, in_epochs, micro_batches
from SPADE.evaluation.scores import begin, flat_scores, record_in_training, score_real_layouts
from SPADE.losses import VGG19Features, Weights, discriminator_losses, generator_losses
from SPADE.networks import (
    UPSAMPLINGS,
    MultiscaleDiscriminator,
    SegmentationCritic,
    SPADEGenerator,
    StyleEncoder,
    segmentation_widths,
)
from SPADE.pretrained import vgg19_weights
from SPADE.settings import SpadeSettings, check

STAGE, PREFIX = "spade", "spade"


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
    by_pixel = config.critic == "segmentation"
    beta2 = 0.999 if by_pixel else 0.9  # as each was published
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

    def generator_terms(kept, labels, images, noise, draws):
        pair, critic = (labels, images), augmentation.augmented(discriminator, kinds, draws, image_channels=3)
        return generator_losses(generator, critic, *pair, weights, encoder, noise, vgg, kept)

    def discriminator_terms(labels, images, noise, draws, real_classes, fake):
        pair, critic = (labels, images), augmentation.augmented(discriminator, kinds, draws, image_channels=3)
        mix = real_classes, config.lambda_labelmix
        return discriminator_losses(generator, critic, *pair, encoder, noise, *mix, fake)

    def update(step, descend):
        # --- Data and noise: this process's n of the batch ---
        images, labels = read(step.images_seen, step.batch_size)  # uint8 [n,3,H,W], [n,1,H,W]
        images = from_uint8(images)  # in [-1,1]
        noise = torch.randn(2, len(images), config.style_dim, device=device) if encoder else (None, None)
        draws = [augmentation.draw(len(images), kinds, device) for _ in noise]  # each [n,7], or None
        real_classes = torch.rand(len(images), generator.num_classes, device=device) < 0.5 if by_pixel else None

        # --- Generator, and the encoder with it ---
        with frozen(discriminator):
            parts = micro_batches(config.micro_batch, labels, images, noise[0], draws[0])
            kept = [] if config.reuse_fakes else None  # its images, part by part
            losses = descend(partial(generator_terms, kept), parts, optimizers["generator"], kind="generator/")

        # --- Discriminator, on images drawn anew unless those are to serve ---
        fake = torch.cat(kept) if kept else None
        parts = micro_batches(config.micro_batch, labels, images, noise[1], draws[1], real_classes, fake)
        return losses | descend(discriminator_terms, parts, optimizers["discriminator"], kind="discriminator/")

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
    device = start(pick(config.device))
    check_compiler(config.compile, device)
    vgg = perceptual_network(config, device)
    evaluation = begin(config, store, device, store.height) if config.evaluate_every else None

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
