"""What is due at a step, a pure function of the images seen before it: a run that goes on needs to know no more."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step, as a stage's schedule plans it."""

    images_seen: int  # before it
    batch_size: int  # over all processes
    number: int  # steps made when this one has been made
    rates: dict[str, float]  # optimiser -> learning rate
    averaged: int  # images that the averages have followed after it, for their half-life; 0: they do not follow yet
    where: str  # the place in the schedule in words, for people
    curves: dict[str, float]  # the same in numbers, for the log
    saved: dict  # the same for checkpoints
    pictures: bool  # are they due after it?
    scores: bool
    checkpoint: int | None  # its number, of epochs or iterations; None: none is due


def in_epochs(images_seen: int, config, epoch_images: int, rates: dict, before: int = 0) -> Step:
    """The step of a training whose rates are constant for niter epochs and fall to 0 in niter_decay further ones.

    rates: optimiser -> (learning rate, does it fall?); before: images that are seen before the first epoch begins.
    """
    trained = images_seen - before  # negative before the first epoch
    then = trained + config.batch_size
    factor = linear_decay(max(trained, 0), epoch_images, config.niter, config.niter_decay)
    rates = {name: rate * factor if falls else rate for name, (rate, falls) in rates.items()}
    number, epoch = (images_seen + config.batch_size) // config.batch_size, max(then, 0) // epoch_images
    last = then >= (config.niter + config.niter_decay) * epoch_images

    def due(epochs):
        """Does one of every so many epochs end with this step, or the training? 0 is never."""
        images = epochs * epoch_images
        return epochs > 0 and then > 0 and (last or then // images > trained // images)

    return Step(
        images_seen=images_seen,
        batch_size=config.batch_size,
        number=number,
        rates=rates,
        averaged=max(then, 0),
        where=f"epoch {epoch}",
        curves={f"learning_rate/{name}": rate for name, rate in rates.items()},
        saved={"epoch": epoch},
        pictures=last or number == 1 or every(config.picture_every, number),
        scores=due(config.evaluate_every),
        checkpoint=epoch if last or due(config.save_every) else None,
    )


def linear_decay(images_seen: int, epoch_images: int, constant_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for constant_epochs, then linear to 0 in decay_epochs."""
    beyond = images_seen / epoch_images - constant_epochs
    return 1.0 if beyond <= 0 else max(0.0, 1 - beyond / max(decay_epochs, 1))


def every(period: int, steps: int) -> bool:
    """Is this one of every `period` steps? A period of 0 is never."""
    return period > 0 and steps % period == 0
