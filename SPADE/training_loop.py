"""Stage 2: SPADE learns to draw the photograph of a real layout."""

from pathlib import Path

import torch

from datasets.reader import Reader, in_order
from SPADE import objectives
from SPADE.engine import checkpoint
from SPADE.engine.data import data_record
from SPADE.engine.device import place, seed_step
from SPADE.engine.distributed import broadcast, rank, world_size
from SPADE.engine.evaluation import evaluating
from SPADE.engine.images import colour_layouts, from_uint8, sheet, to_uint8
from SPADE.engine.log import Progress, RunLog
from SPADE.engine.step import descend, frozen, linear_decay, set_learning_rate
from SPADE.networks import UPSAMPLINGS, MultiscaleDiscriminator, SPADEGenerator, StyleEncoder

STAGE = "spade"


def train(config, store, device, vgg, evaluate=None) -> Path:
    """Trains for niter + niter_decay epochs; returns the last checkpoint's path.

    config: SpadeSettings; vgg: perceptual feature network or None; evaluate: generator -> {score name: value} or None.
    """
    # --- Networks ---
    num_classes = store.label_space.num_classes
    generator = SPADEGenerator(
        num_classes,
        store.height,
        store.width,
        channels=config.ngf,
        upsamplings=UPSAMPLINGS[config.upsampling],
        hidden=config.hidden,
        style_dim=config.style_dim if config.use_vae else 0,
    )
    generator = place(generator, device)
    discriminator = place(MultiscaleDiscriminator(num_classes + 3, config.ndf, config.d_strides), device)
    encoder = place(StyleEncoder(config.ngf, config.style_dim), device) if config.use_vae else None
    networks = {"generator": generator, "discriminator": discriminator}
    networks |= {"encoder": encoder} if encoder else {}
    broadcast(*networks.values())

    # --- Optimisers ---
    trained = list(generator.parameters()) + (list(encoder.parameters()) if encoder else [])
    generator_optimizer = torch.optim.Adam(trained, betas=(0.0, 0.9))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), betas=(0.0, 0.9))
    weights = objectives.Weights(config.lambda_feat, config.lambda_vgg, config.lambda_kld)

    # --- Data and log ---
    reader = Reader(store["train"], config.seed, rank(), world_size())
    epoch_images = store["train"].draws_per_epoch
    total = (config.niter + config.niter_decay) * epoch_images
    log = RunLog(Path(config.logs) / config.name if rank() == 0 else None)
    progress = Progress("spade", total, every=config.log_every)
    folder = Path(config.weights) / config.name

    images_seen, steps, path = 0, 0, None
    while images_seen < total:
        # --- Schedule ---
        factor = linear_decay(images_seen, epoch_images, config.niter, config.niter_decay)
        set_learning_rate(generator_optimizer, factor * config.lr / 2)
        set_learning_rate(discriminator_optimizer, factor * config.lr * 2)

        # --- Data and noise ---
        seed_step(config.seed, images_seen, rank())
        images, labels = reader.pairs(images_seen, config.batch_size)
        labels, images = labels.to(device, non_blocking=True), from_uint8(images.to(device, non_blocking=True))

        # --- Generator, then discriminator ---
        with frozen(discriminator):
            terms = objectives.generator_losses(generator, discriminator, labels, images, weights, encoder, vgg)
            generator_terms = descend(terms, generator_optimizer)
        terms = objectives.discriminator_losses(generator, discriminator, labels, images, encoder)
        discriminator_terms = descend(terms, discriminator_optimizer)

        # --- Log ---
        before, images_seen, steps = images_seen, images_seen + config.batch_size, steps + 1
        epoch = images_seen // epoch_images
        progress.step(config.batch_size)
        if progress.due():
            losses = {f"generator/{k}": v for k, v in generator_terms.items()}
            losses |= {f"discriminator/{k}": v for k, v in discriminator_terms.items()}
            values = progress.show(f"spade {store.height}x{store.width} epoch {epoch}", losses)
            log.scalars({**values, "learning_rate/generator": factor * config.lr / 2}, images_seen)
            log.scalars({"learning_rate/discriminator": factor * config.lr * 2}, images_seen)
        if rank() == 0 and (steps == 1 or steps % config.picture_every == 0 or images_seen >= total):
            log.picture("layout_generated_real", pictures(generator, store, device, encoder), images_seen)

        # --- Evaluation and checkpoint, where an epoch that asks for it has ended ---
        last = images_seen >= total
        if evaluate and rank() == 0 and ended(before, images_seen, epoch_images, config.evaluate_every, last):
            log.scalars(evaluate(generator), images_seen)
        if rank() == 0 and ended(before, images_seen, epoch_images, config.save_every, last):
            path = folder / f"spade_{epoch}.pt"
            save(path, config, store, networks, images_seen, epoch)
    progress.close()
    log.close()
    return path


def ended(before: int, now: int, epoch_images: int, every: int, last: bool) -> bool:
    """Has a multiple of `every` epochs ended between two numbers of images seen? `every` 0 is never."""
    return every > 0 and (last or now // (every * epoch_images) > before // (every * epoch_images))


def save(path, config, store, networks, images_seen, epoch):
    content = {
        "config": dict(vars(config)),
        "data": data_record(store),
        "images_seen": images_seen,
        "epoch": epoch,
        "networks": {name: checkpoint.record(network) for name, network in networks.items()},
    }
    checkpoint.save(path, STAGE, content)


def pictures(generator, store, device, encoder=None, num: int = 8):
    """Layouts, images drawn from them, real images, one below the other: uint8 [3,...]. From the reference split."""
    split = store[store.reference]
    images, labels = in_order(split, 0, min(num, len(split)))
    with evaluating(generator, *([encoder] if encoder else [])):
        style = encoder(from_uint8(images.to(device)))[0] if encoder else None
        drawn = to_uint8(generator(labels.to(device), style=style))
    return sheet([colour_layouts(labels, torch.from_numpy(store.label_space.colours)), drawn, images])
