"""Stage 2: SPADE learns to draw the photograph of a real layout."""

from functools import partial
from pathlib import Path

import torch

from datasets.reader import Reader
from SPADE import objectives
from SPADE.engine.data import data_record, spread_pairs
from SPADE.engine.determinism import deterministic
from SPADE.engine.device import place, seed_step, to_device
from SPADE.engine.distributed import broadcast, rank, world_size
from SPADE.engine.ema import averaged_copy
from SPADE.engine.evaluation import evaluating
from SPADE.engine.guard import Guard
from SPADE.engine.images import colour_layouts, from_uint8, sheet, to_uint8
from SPADE.engine.log import Progress, RunLog
from SPADE.engine.memory import announce
from SPADE.engine.precision import autocast, set_precision
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState
from SPADE.engine.step import adam, descend, ended, every, frozen, linear_decay, micro_batches, set_learning_rate
from SPADE.engine.stopping import stop_requests
from SPADE.engine.watch import together
from SPADE.networks import UPSAMPLINGS, MultiscaleDiscriminator, SPADEGenerator, StyleEncoder

STAGE, PREFIX = "spade", "spade"


def class_axes(generator: SPADEGenerator) -> dict[str, int]:
    """The layers that see classes, for a warm start."""
    axes = {r"generator\..*\.shared": 1, r"discriminator\.scales\.\d+\.first": 1}
    return axes if generator.style_dim else axes | {r"generator\.stem": 1}  # else the start is that of a style


def train(config, store, device, vgg, evaluate=None) -> Path:
    """Trains for niter + niter_decay epochs; returns the last checkpoint's path.

    config: SpadeSettings; vgg: perceptual feature network or None; evaluate: (generator, images seen) -> {score name:
    value}, or None.
    """
    # --- What there is already ---
    epoch_images = store["train"].draws_per_epoch
    total = (config.niter + config.niter_decay) * epoch_images
    folder = RunFolder(config, PREFIX, STAGE)
    folder.begin(
        config,
        data_record(store),
        constant_images=lambda config: config.niter * epoch_images,
        start_from=config.start_from,
    )

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

    # --- Optimisers ---
    trained = list(generator.parameters()) + (list(encoder.parameters()) if encoder else [])
    optimizers = {"generator": adam(trained, 0.9), "discriminator": adam(discriminator.parameters(), 0.9)}
    # SPADE sums the divergence over the batch, where all else is a mean.
    weights = objectives.Weights(config.lambda_feat, config.lambda_vgg, config.lambda_kld * config.batch_size)

    # --- Where to begin ---
    averages = {name: averaged_copy(net) for name, net in networks.items() if name != "discriminator" and config.ema}
    state = TrainingState(networks, optimizers, averages)
    if not folder.restore(state, total, class_axes(generator)):
        return folder.last_good
    broadcast(*networks.values())
    reader = Reader(store["train"], config.seed, rank(), world_size())
    set_precision(config.precision, device)
    precision = autocast(config.precision, device)

    def update(images_seen, guard) -> dict:
        """One step of both networks on the batch after so many images; returns the losses."""
        # --- Data and noise ---
        seed_step(config.seed, images_seen, rank())
        images, labels = (to_device(part, device) for part in reader.pairs(images_seen, config.batch_size))
        noise = torch.randn(2, len(images), config.style_dim, device=device) if encoder else (None, None)
        parts = [micro_batches(config.micro_batch, labels, from_uint8(images), n) for n in noise]

        # --- Generator, then discriminator ---
        def of_generator(labels, images, noise):
            pair = labels, images
            return objectives.generator_losses(generator, discriminator, *pair, weights, encoder, noise, vgg)

        def of_discriminator(labels, images, noise):
            return objectives.discriminator_losses(generator, discriminator, labels, images, encoder, noise)

        how = dict(guard=guard, autocast=precision)
        with frozen(discriminator):
            losses = descend(of_generator, parts[0], optimizers["generator"], kind="generator/", **how)
        return losses | descend(of_discriminator, parts[1], optimizers["discriminator"], kind="discriminator/", **how)

    with (
        stop_requests() as stop,
        together(),
        deterministic(config.deterministic),
        RunLog(Path(config.logs) / config.name, state.images_seen) as log,
        Progress(PREFIX, total, state.images_seen) as progress,
    ):
        announce(networks, optimizers, partial(update, state.images_seen), device, f"batch {config.batch_size}")
        guard = Guard(networks.values(), state.skipped, stop, folder)
        while state.images_seen < total:
            # --- Schedule ---
            factor = linear_decay(state.images_seen, epoch_images, config.niter, config.niter_decay)
            rates = {"generator": factor * config.lr / 2, "discriminator": factor * config.lr * 2}
            for name, rate in rates.items():
                set_learning_rate(optimizers[name], rate)

            # --- Generator, then discriminator ---
            losses = update(state.images_seen, guard)

            # --- Count, average, log ---
            before = state.images_seen
            seen = state.images_seen = before + config.batch_size
            steps, epoch, last = seen // config.batch_size, seen // epoch_images, seen >= total
            state.average(config.batch_size, seen, config.ema_images)
            progress.step(config.batch_size)
            if last or every(config.log_every, steps):
                values = progress.show(f"{PREFIX} {store.height}x{store.width} epoch {epoch}", losses)
                log.scalars(values, seen)
                log.scalars({f"learning_rate/{name}": rate for name, rate in rates.items()}, seen)
                log.scalars({f"skipped/{name}": count for name, count in state.skipped.items()}, seen)
            if rank() == 0 and (last or steps == 1 or every(config.picture_every, steps)):
                drawn = pictures(state.shown("generator"), store, device, state.shown("encoder"))
                log.picture("layout_generated_real", drawn, seen)

            # --- Evaluation and checkpoint, where an epoch that asks for it has ended ---
            if evaluate and ended(before, seen, epoch_images, config.evaluate_every, last):
                log.scalars(evaluate(state.shown("generator"), seen), seen)
            scheduled = ended(before, seen, epoch_images, config.save_every, last)
            if scheduled or stop.signal or every(config.resume_every, steps):
                guard.read()
                log.flush()
                folder.save(state, number=epoch if scheduled else None, epoch=epoch)
            if stop.signal:
                stop.leave()
    return folder.last_good


def pictures(generator, store, device, encoder=None, num: int = 8):
    """Layouts, images drawn from them, real images, one below the other: uint8 [3,...]. From the reference split."""
    images, labels = spread_pairs(store[store.reference], num)
    with evaluating(generator, *([encoder] if encoder else [])):
        style = encoder(from_uint8(images.to(device)))[0] if encoder else None
        drawn = to_uint8(generator(labels.to(device), style=style))
    return sheet([colour_layouts(labels, torch.from_numpy(store.label_space.colours)), drawn, images])
