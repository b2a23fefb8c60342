"""Stage 1: progressive training of a generator against a discriminator; of layouts, or of RGB images (the baseline).

What differs between the two is handed in as a `Domain` of functions; the loop is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from SBGAN.losses import gradient_penalty, wasserstein_discriminator, wasserstein_generator
from SBGAN.schedule import iteration_at, phase_at, total_images
from SPADE.engine import checkpoint
from SPADE.engine.device import seed_step
from SPADE.engine.distributed import broadcast, rank
from SPADE.engine.log import Progress, RunLog
from SPADE.engine.step import descend, frozen


@dataclass(frozen=True)
class Domain:
    """What the loop does not know about layouts and images."""

    stage: str  # written into the checkpoints
    prefix: str  # of their file names
    real: Callable  # (images_seen, batch_size, resolution) -> discriminator input [N,C,h,w]
    sample: Callable  # generator output -> discriminator input
    statistics: Callable  # generator output -> {name: scalar tensor} to log
    pictures: Callable  # (generator, resolution, alpha) -> uint8 [3,...]
    evaluate: Callable  # (generator, resolution, alpha) -> {score name: value}


def generator_terms(generator, discriminator, domain, z, resolution, alpha):
    output = generator(z, resolution, alpha)
    score = discriminator(domain.sample(output), resolution, alpha)
    with torch.no_grad():
        statistics = domain.statistics(output)
    return {"wgan": wasserstein_generator(score)}, statistics


def discriminator_terms(generator, discriminator, domain, real, z, resolution, alpha, penalty_weight, mix=None):
    with torch.no_grad():
        fake = domain.sample(generator(z, resolution, alpha))

    def score(x):
        return discriminator(x, resolution, alpha)

    return {
        "wgan": wasserstein_discriminator(score(real), score(fake)),
        "gradient_penalty": penalty_weight * gradient_penalty(score, real, fake, mix),
    }


def train(config, phases, data, generator, discriminator, domain: Domain, device) -> Path:
    """Trains through all phases; returns the last checkpoint's path.

    config: ProgressiveSettings; data: what the checkpoints say of the data set.
    """
    # --- Optimisers ---
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=config.lr, betas=(0.0, 0.99))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config.lr, betas=(0.0, 0.99))
    networks = {"generator": generator, "discriminator": discriminator}
    broadcast(generator, discriminator)

    # --- Log ---
    total = total_images(phases)
    log = RunLog(Path(config.logs) / config.name if rank() == 0 else None)
    progress = Progress(domain.stage, total, every=config.log_every)
    folder = Path(config.weights) / config.name

    images_seen, path = 0, None
    while images_seen < total:
        # --- Schedule ---
        phase, alpha = phase_at(phases, images_seen)
        at = phase.resolution, alpha

        # --- Data and noise ---
        seed_step(config.seed, images_seen, rank())
        real = domain.real(images_seen, phase.batch_size, phase.resolution)
        z = torch.randn(2, len(real), generator.latent_dim, device=device)

        # --- Generator, then discriminator ---
        with frozen(discriminator):
            terms, statistics = generator_terms(generator, discriminator, domain, z[0], *at)
            of_generator = descend(terms, generator_optimizer)
        terms = discriminator_terms(generator, discriminator, domain, real, z[1], *at, config.penalty_weight)
        of_discriminator = descend(terms, discriminator_optimizer)

        # --- Log ---
        images_seen += phase.batch_size
        iteration = iteration_at(phases, images_seen)
        phase_ends = images_seen == phase.start + phase.images
        progress.step(phase.batch_size)
        if progress.due():
            losses = {f"generator/{k}": v for k, v in of_generator.items()}
            losses |= {f"discriminator/{k}": v for k, v in of_discriminator.items()}
            label = f"{domain.prefix} {phase.resolution} rows, {phase.name}"
            values = progress.show(label, losses | statistics)
            schedule = {"alpha": alpha, "resolution": phase.resolution, "learning_rate": config.lr}
            log.scalars(values | schedule, images_seen)
        if rank() == 0 and (phase_ends or iteration % config.picture_every == 0):
            log.picture("generated", domain.pictures(generator, *at), images_seen)

        # --- Evaluation and checkpoint ---
        scores_due = phase_ends or (config.evaluate_every and iteration % config.evaluate_every == 0)
        if rank() == 0 and scores_due:
            log.scalars(domain.evaluate(generator, *at), images_seen)
        if rank() == 0 and (images_seen >= total or iteration % config.save_every == 0):
            path = folder / f"{domain.prefix}_{iteration}.pt"
            content = {
                "config": dict(vars(config)),
                "data": data,
                "images_seen": images_seen,
                "resolution": phase.resolution,
                "alpha": alpha,
                "networks": {name: checkpoint.record(network) for name, network in networks.items()},
            }
            checkpoint.save(path, domain.stage, content)
    progress.close()
    log.close()
    return path
