"""Stage 1: progressive training of a generator against a discriminator; of layouts, or of RGB images (the baseline).

What differs between the two is handed in as a `Domain` of functions. Karras et al., ICLR 2018; Azadi et al. 2019.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from datasets.errors import UserError
from SBGAN.losses import discriminator_losses, generator_losses, penalty_is_due, penalty_period, told_losses
from SPADE.augmentation import augmented, draw, parse_kinds
from SPADE.engine import loop
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState, averaged_copy
from SPADE.engine.step import Step, adam, every, frozen, micro_batches

SHOWN = 32  # samples of a picture


@dataclass(frozen=True)
class Domain:
    """What makes the training one of layouts or one of RGB images."""

    stage: str  # written into the checkpoints
    prefix: str  # of their file names
    real: Callable  # (images_seen, batch_size, resolution) -> discriminator input [N,C,h,w]
    noise: Callable  # (number of samples, resolution) -> what `sample` draws with, or None
    sample: Callable  # (generator output, noise) -> discriminator input
    image_channels: int  # those of the discriminator's input that have colours: 3, or 0 for layouts
    statistics: Callable  # generator output -> {name: scalar tensor} to log
    pictures: Callable  # (generator, resolution, alpha) -> uint8 [3,...]
    evaluate: Callable  # (generator, resolution, alpha, images_seen) -> {score name: value}
    class_axes: dict[str, int]  # the layers that see or give classes, for a warm start


def generator_terms(
    generator, discriminator, domain, z, noise, resolution, alpha, loss="wgan_gp", told=(0.0, 0.0), kept=None
):
    """Losses of the generator at one resolution, and statistics to log.

    told: weights of `told_losses`, for a generator that is told class shares. kept: list to append the samples to.
    """
    output = generator(z, resolution, alpha)  # [N,latent_dim] -> [N,C,h,w]
    shares = generator.shares_of(z)  # [N,C], or None
    on_shares = {} if shares is None else told_losses(output, shares, *told)
    sample = domain.sample(output, noise)
    if kept is not None:
        kept.append(sample.detach())
    score = discriminator(sample, resolution, alpha)  # [N,1]
    with torch.no_grad():  # constants: they are logged beside the loss and add nothing to its gradient
        statistics = domain.statistics(output)
    return generator_losses(loss, score) | on_shares | statistics


def discriminator_terms(
    generator,
    discriminator,
    domain,
    real,
    z,
    noise,
    mix,
    resolution,
    alpha,
    penalty_weight,
    loss="wgan_gp",
    fake=None,
    **when,
):
    """Losses of the discriminator at one resolution.

    fake: samples [N,C,h,w], as `real` is; drawn here if not given. when: step and penalty_every of the losses.
    """
    if fake is None:
        with torch.no_grad():
            fake = domain.sample(generator(z, resolution, alpha), noise)

    score = partial(discriminator, resolution=resolution, alpha=alpha)
    return discriminator_losses(loss, score, real, fake, mix, penalty_weight, **when)


def plan(images_seen: int, config, phases) -> Step:
    """The next step: its phase, and what is due when it is made."""
    phase, alpha = phase_at(phases, images_seen)
    seen = images_seen + phase.batch_size
    iteration, last = iteration_at(phases, seen), seen >= total_images(phases)
    phase_ends = seen == phase.start + phase.images
    return Step(
        images_seen=images_seen,
        batch_size=phase.batch_size,
        number=iteration,
        rates={"generator": config.lr, "discriminator": config.lr},
        averaged=seen,
        where=f"{phase.resolution} rows, {phase.name}",
        curves={"alpha": alpha, "resolution": phase.resolution, "learning_rate": config.lr},
        saved={"resolution": phase.resolution, "alpha": alpha},
        pictures=phase_ends,
        scores=phase_ends or every(config.evaluate_every, iteration),
        checkpoint=iteration if last or every(config.save_every, iteration) else None,
    )


def train(config, phases, data, generator, discriminator, domain: Domain, device) -> Path:
    """Trains through all phases; returns the last checkpoint's path.

    config: LayoutSettings; data: what the checkpoints say of the data set.
    """
    # --- What there is already ---
    folder = RunFolder(config, domain.prefix, domain.stage)
    folder.begin(config, data, start_from=config.start_from)

    # --- Optimisers ---
    networks = {"generator": generator, "discriminator": discriminator}
    optimizers = {name: adam(network.parameters(), 0.99, config.lr) for name, network in networks.items()}
    state = TrainingState(networks, optimizers, {"generator": averaged_copy(generator)} if config.ema else {})
    folder.start_warm(state, domain.class_axes)

    # --- One step ---
    kinds, told = parse_kinds(config.augment), (config.lambda_shares, config.lambda_entropy)

    def update(step, descend):
        # --- Data and noise: this process's n of the batch, and a draw for each descent ---
        phase, alpha = phase_at(phases, step.images_seen)
        if config.compile and phase.fading:
            alpha = torch.full((), alpha, device=device)  # see `fading`
        at = dict(resolution=phase.resolution, alpha=alpha)
        real = domain.real(step.images_seen, step.batch_size, phase.resolution)  # [n,C,h,w]
        z = torch.randn(2, len(real), generator.latent_dim, device=device)
        noise = [domain.noise(len(real), phase.resolution) for _ in z]  # each [n,C,h,w], or None
        mix = torch.rand(len(real), device=device)  # of the gradient penalty
        draws = [draw(len(real), kinds, device) for _ in z]  # of the augmentation: each {kind: [n,...]}

        def critic(draws):
            return augmented(discriminator, draws, domain.image_channels)

        # --- Generator ---
        kept = [] if config.reuse_fakes else None  # its samples, part by part

        def of_generator(z, noise, draws):
            more = dict(loss=config.loss, told=told, kept=kept)
            return generator_terms(generator, critic(draws), domain, z, noise, **at, **more)

        with frozen(discriminator):
            parts = micro_batches(config.micro_batch, z[0], noise[0], draws[0])
            losses = descend(of_generator, parts, optimizers["generator"], kind="generator/")

        # --- Discriminator, on samples drawn anew unless those are to serve ---
        fake = torch.cat(kept) if kept else None
        loss = dict(loss=config.loss, penalty_weight=config.penalty_weight, penalty_every=config.penalty_every)

        def of_discriminator(real, z, noise, mix, draws, fake):
            more = dict(fake=fake, step=step.number)
            return discriminator_terms(generator, critic(draws), domain, real, z, noise, mix, **at, **loss, **more)

        parts = micro_batches(config.micro_batch, real, z[1], noise[1], mix, draws[1], fake)
        return losses | descend(of_discriminator, parts, optimizers["discriminator"], kind="discriminator/")

    # --- Pictures and scores at the resolution of the step before them ---
    def shown_at(step):
        phase, alpha = phase_at(phases, step.images_seen)
        return state.shown("generator"), phase.resolution, alpha

    training = loop.Training(
        total=total_images(phases),
        state=state,
        schedule=lambda images_seen: plan(images_seen, config, phases),
        update=update,
        pictures=lambda step: {"generated": domain.pictures(*shown_at(step))},
        evaluate=lambda step: domain.evaluate(*shown_at(step), state.images_seen),
        heaviest=heaviest(phases, config.loss, config.penalty_every),
    )
    return loop.train(config, folder, training, device)


def heaviest(phases, loss: str, penalty_every: int = 0) -> int:
    """Images seen before a step that takes as much memory as any: one of the most pixels at which the penalty is due.

    The penalty's gradient is differentiated again, so that such a step holds about twice of what another does.
    """
    memory, period = {}, penalty_period(loss, penalty_every)
    for phase in phases:
        before = iteration_at(phases, phase.start)
        steps = range(phase.images // phase.batch_size)
        due = [k for k in steps[:period] if penalty_is_due(before + k + 1, period)]
        place = phase.start + (due[0] * phase.batch_size if due else 0)
        memory[place] = phase.resolution**2 * phase.batch_size * (2 if due else 1)
    return max(memory, key=memory.get)


# --- Schedule: resolution, fade-in and batch size, a pure function of the number of images seen ---


@dataclass(frozen=True)
class Phase:
    resolution: int  # height of the layouts
    fading: bool  # the new resolution fades in, or is stabilised
    batch_size: int  # over all processes
    start: int  # images seen when it begins
    images: int  # its length, a multiple of batch_size

    @property
    def name(self):
        return "fade" if self.fading else "stabilise"


def make_phases(
    max_resolution: int,
    num_images: int,
    epochs: int,
    batch_size: int,
    batch_sizes: dict | None = None,
    epochs_at: dict | None = None,
):
    """A stabilise phase at 4, then a fade and a stabilise phase at 8, 16, ... max_resolution, each `epochs` long.

    num_images: images of an epoch. batch_sizes, epochs_at: resolution -> batch size, epochs where they differ. A
    resolution of 0 epochs is left out; the first of those that are left has nothing to fade in from.
    """
    phases, start, resolution = [], 0, 4
    while resolution <= max_resolution:
        batch = (batch_sizes or {}).get(resolution, batch_size)
        length = (epochs_at or {}).get(resolution, epochs)
        images = max(1, -(-length * num_images // batch)) * batch  # whole batches, at least one
        for fading in ((True, False) if phases else (False,)) if length else ():
            phases.append(Phase(resolution, fading, batch, start, images))
            start += images
        resolution *= 2
    return phases


def total_images(phases: list[Phase]) -> int:
    return phases[-1].start + phases[-1].images


def phase_at(phases: list[Phase], images_seen: int) -> tuple[Phase, float]:
    """The phase that the next batch belongs to, and its alpha: linear from 0 to 1 in a fade, else 1."""
    phase = phases[bisect_right([p.start for p in phases], images_seen) - 1]
    alpha = (images_seen - phase.start) / phase.images if phase.fading else 1.0
    return phase, min(alpha, 1.0)


def iteration_at(phases: list[Phase], images_seen: int) -> int:
    """Optimiser steps made when this many images have been seen."""
    done = 0
    for phase in phases:
        done += min(max(images_seen - phase.start, 0), phase.images) // phase.batch_size
    return done


def parse_by_resolution(text: str, flag: str) -> dict[int, int]:
    """ "128:8,256:4" -> {128: 8, 256: 4}."""
    items = [item.split(":") for item in text.split(",") if item]
    try:
        found = {int(resolution): int(number) for resolution, number in items}
    except ValueError:
        found = {}
    if len(found) < len(items):
        wanted = "RESOLUTION:NUMBER pairs such as 128:8,256:4, each resolution once"
        raise UserError(f"--{flag} is {text!r}, wanted {wanted}; mend the flag")
    return found
