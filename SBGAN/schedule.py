"""Resolution, fade-in and batch size of the progressive training: a pure function of the number of images seen."""

from bisect import bisect_right
from dataclasses import dataclass

from datasets.errors import UserError


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
    try:
        return {int(a): int(b) for a, b in (item.split(":") for item in text.split(",") if item)}
    except ValueError as error:
        raise UserError(
            f"--{flag} is {text!r}, wanted RESOLUTION:NUMBER pairs such as 128:8,256:4; mend the flag"
        ) from error
