"""Stage 1: progressive training of a generator against a discriminator; of layouts, or of RGB images (the baseline).

What differs between the two is handed in as a `Domain` of functions; the loop is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from SBGAN.losses import gradient_penalty, wasserstein_discriminator, wasserstein_generator
from SBGAN.schedule import iteration_at, phase_at, total_images
from SPADE.engine.determinism import deterministic
from SPADE.engine.device import seed_step
from SPADE.engine.distributed import broadcast, rank
from SPADE.engine.ema import averaged_copy
from SPADE.engine.guard import Guard
from SPADE.engine.log import Progress, RunLog
from SPADE.engine.memory import announce
from SPADE.engine.precision import autocast, set_precision
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState
from SPADE.engine.step import adam, descend, every, frozen, micro_batches
from SPADE.engine.stopping import stop_requests
from SPADE.engine.watch import together


@dataclass(frozen=True)
class Domain:
    """What the loop does not know about layouts and images."""

    stage: str  # written into the checkpoints
    prefix: str  # of their file names
    real: Callable  # (images_seen, batch_size, resolution) -> discriminator input [N,C,h,w]
    noise: Callable  # (number of samples, resolution) -> what `sample` draws with, or None
    sample: Callable  # (generator output, noise) -> discriminator input
    statistics: Callable  # generator output -> {name: scalar tensor} to log
    pictures: Callable  # (generator, resolution, alpha) -> uint8 [3,...]
    evaluate: Callable  # (generator, resolution, alpha, images_seen) -> {score name: value}
    class_axes: dict[str, int]  # the layers that see or give classes, for a warm start


def generator_terms(generator, discriminator, domain, z, noise, resolution, alpha):
    output = generator(z, resolution, alpha)
    score = discriminator(domain.sample(output, noise), resolution, alpha)
    with torch.no_grad():  # constants: they are logged beside the loss and add nothing to its gradient
        statistics = domain.statistics(output)
    return {"wgan": wasserstein_generator(score), **statistics}


def discriminator_terms(generator, discriminator, domain, real, z, noise, mix, resolution, alpha, penalty_weight):
    with torch.no_grad():
        fake = domain.sample(generator(z, resolution, alpha), noise)

    score = partial(discriminator, resolution=resolution, alpha=alpha)
    return {
        "wgan": wasserstein_discriminator(score, real, fake),
        "gradient_penalty": penalty_weight * gradient_penalty(score, real, fake, mix),
    }


def train(config, phases, data, generator, discriminator, domain: Domain, device) -> Path:
    """Trains through all phases; returns the last checkpoint's path.

    config: ProgressiveSettings; data: what the checkpoints say of the data set.
    """
    # --- What there is already ---
    folder = RunFolder(config, domain.prefix, domain.stage)
    folder.begin(config, data, start_from=config.start_from)

    # --- Optimisers ---
    networks = {"generator": generator, "discriminator": discriminator}
    optimizers = {name: adam(network.parameters(), 0.99, config.lr) for name, network in networks.items()}

    # --- Where to begin ---
    total = total_images(phases)
    averages = {"generator": averaged_copy(generator)} if config.ema else {}
    state = TrainingState(networks, optimizers, averages)
    if not folder.restore(state, total, domain.class_axes):
        return folder.last_good
    broadcast(*networks.values())
    set_precision(config.precision, device)
    precision = autocast(config.precision, device)

    def update(images_seen, phase, alpha, guard) -> dict:
        """One step of both networks on the batch after so many images; returns the losses."""
        # --- Data and noise ---
        at = phase.resolution, alpha
        seed_step(config.seed, images_seen, rank())
        real = domain.real(images_seen, phase.batch_size, phase.resolution)
        z = torch.randn(2, len(real), generator.latent_dim, device=device)
        noise = [domain.noise(len(real), phase.resolution) for _ in z]
        mix = torch.rand(len(real), device=device)

        # --- Generator, then discriminator ---
        def of_generator(z, noise):
            return generator_terms(generator, discriminator, domain, z, noise, *at)

        def of_discriminator(*batch):
            return discriminator_terms(generator, discriminator, domain, *batch, *at, config.penalty_weight)

        how = dict(guard=guard, autocast=precision)
        with frozen(discriminator):
            parts = micro_batches(config.micro_batch, z[0], noise[0])
            losses = descend(of_generator, parts, optimizers["generator"], kind="generator/", **how)
        parts = micro_batches(config.micro_batch, real, z[1], noise[1], mix)
        return losses | descend(of_discriminator, parts, optimizers["discriminator"], kind="discriminator/", **how)

    with (
        stop_requests() as stop,
        together(),
        deterministic(config.deterministic),
        RunLog(Path(config.logs) / config.name, state.images_seen) as log,
        Progress(domain.stage, total, state.images_seen) as progress,
    ):
        widest = max(phases, key=lambda phase: phase.resolution**2 * phase.batch_size)
        what = f"batch {widest.batch_size} at {widest.resolution} rows"
        announce(networks, optimizers, partial(update, 0, widest, 0.5), device, what)
        guard = Guard(networks.values(), state.skipped, stop, folder)
        while state.images_seen < total:
            # --- Schedule ---
            phase, alpha = phase_at(phases, state.images_seen)
            at = phase.resolution, alpha

            # --- Generator, then discriminator ---
            losses = update(state.images_seen, phase, alpha, guard)

            # --- Count, average, log ---
            seen = state.images_seen = state.images_seen + phase.batch_size
            iteration, last = iteration_at(phases, seen), seen >= total
            state.average(phase.batch_size, seen, config.ema_images)
            phase_ends = seen == phase.start + phase.images
            progress.step(phase.batch_size)
            if last or every(config.log_every, iteration):
                values = progress.show(f"{domain.prefix} {phase.resolution} rows, {phase.name}", losses)
                schedule = {"alpha": alpha, "resolution": phase.resolution, "learning_rate": config.lr}
                log.scalars(values | schedule, seen)
                log.scalars({f"skipped/{name}": count for name, count in state.skipped.items()}, seen)
            if rank() == 0 and (phase_ends or every(config.picture_every, iteration)):
                log.picture("generated", domain.pictures(state.shown("generator"), *at), seen)

            # --- Evaluation and checkpoint ---
            if phase_ends or every(config.evaluate_every, iteration):
                log.scalars(domain.evaluate(state.shown("generator"), *at, seen), seen)
            scheduled = last or every(config.save_every, iteration)
            if scheduled or stop.signal or every(config.resume_every, iteration):
                guard.read()
                log.flush()
                folder.save(state, number=iteration if scheduled else None, resolution=phase.resolution, alpha=alpha)
            if stop.signal:
                stop.leave()
    return folder.last_good
