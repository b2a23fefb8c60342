"""The one training loop: schedule, step, average, log, evaluate, save, stop.

A stage hands over a `Training`, all that is its own. What every training has in common stands here, once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from SPADE.engine.compilation import COMPILING, compile_networks, step_begins
from SPADE.engine.config import RunSettings
from SPADE.engine.device import autocast, deterministic, keep_freed_memory, seed_step, set_precision
from SPADE.engine.distributed import broadcast, rank, stop_requests, together, watched_step
from SPADE.engine.log import Progress, RunLog
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState
from SPADE.engine.step import Guard, Step, descend, every, measure_memory, set_learning_rate


@dataclass(frozen=True)
class Training:
    """Everything that is a stage's own."""

    total: int  # images to be seen in all
    state: TrainingState  # networks, optimisers, averages of weights
    schedule: Callable  # images seen -> the Step that comes next
    update: Callable  # (Step, descend) -> {loss: value}. One step of all optimisers, each by `step.descend`
    pictures: Callable  # Step just made -> {name: uint8 [3,H,W]}; process 0 alone calls it
    evaluate: Callable  # Step just made -> {score: number}; all processes call it
    heaviest: int = 0  # images seen before a step that takes as much memory as any


def train(config: RunSettings, folder: RunFolder, training: Training, device) -> Path:
    """Goes on from the newest checkpoint in the folder, if there is one; returns the path of the last."""
    # --- Where to begin ---
    state, total = training.state, training.total
    folder.restore(state)
    if state.images_seen >= total:
        if rank() == 0:
            print(f"the training is finished: {folder.last_good}", flush=True)
        return folder.last_good
    broadcast(*state.networks.values())

    # --- Compiler, memory and number format of the process ---
    if config.compile:
        compile_networks(state.networks.values(), device)
    if device.type == "cpu":
        keep_freed_memory()
    set_precision(config.precision, device)
    precision = autocast(config.precision, device)

    def update(step: Step, guard) -> dict:
        """The stage's update with noise that belongs to this step; returns the losses, on their device."""
        seed_step(config.seed, step.images_seen, rank())
        if config.compile:
            step_begins()
        return training.update(step, partial(descend, guard=guard, autocast=precision))

    with (
        folder,
        stop_requests() as stop,
        together(COMPILING if config.compile else 0),
        deterministic(config.deterministic),
        RunLog(folder.log, state.images_seen) as log,
        Progress(folder.prefix, total, state.images_seen) as progress,
    ):
        # --- Memory: the heaviest step, rehearsed ---
        heaviest = training.schedule(training.heaviest)
        what = f"batch {heaviest.batch_size}, {heaviest.where}"
        with watched_step():
            measure_memory(state.networks, state.optimizers, partial(update, heaviest), device, what)
        guard = Guard(state.networks.values(), state.skipped, folder)

        while state.images_seen < total:
            # --- Schedule ---
            step = training.schedule(state.images_seen)
            for name, rate in step.rates.items():
                set_learning_rate(state.optimizers[name], rate)

            # --- Step ---
            with watched_step():
                losses = update(step, guard)

            # --- Count, average ---
            seen = state.images_seen = step.images_seen + step.batch_size
            last = seen >= total
            if step.averaged:
                state.average(step.batch_size, step.averaged, config.ema_images)
            progress.step(step.batch_size)

            # --- Log ---
            if last or every(config.log_every, step.number):
                log.scalars(progress.show(f"{folder.prefix} {step.where}", losses), seen)
                log.scalars(step.curves, seen)
                log.scalars({f"skipped/{name}": count for name, count in state.skipped.items()}, seen)
            if rank() == 0 and (step.pictures or every(config.picture_every, step.number)):
                for name, picture in training.pictures(step).items():
                    log.picture(name, picture, seen)

            # --- Evaluate ---
            if step.scores:
                log.scalars(training.evaluate(step), seen)

            # --- Save, stop ---
            stop.agree()
            if step.checkpoint is not None or stop.signal or every(config.resume_every, step.number):
                guard.read()
                folder.save(state, step.checkpoint, **step.saved)
            if stop.signal:
                stop.leave()
    return folder.last_good
