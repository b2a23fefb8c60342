"""The schedule of phases by hand; the steps that are rehearsed for their memory are the heaviest."""

import pytest
import torch

from SBGAN import joint_stage, layout_stage
from SBGAN.layout_stage import iteration_at, make_phases, phase_at, total_images
from SBGAN.losses import discriminator_losses
from SBGAN.train_finetune_end2end import FinetuneSettings
from SBGAN.train_progressive_seg import LayoutSettings
from SPADE.engine.step import in_epochs


def walk(phases):
    """(resolution, fading, alpha, batch) of every step, by stepping through the training."""
    seen, steps = 0, []
    while seen < total_images(phases):
        phase, alpha = phase_at(phases, seen)
        steps.append((phase.resolution, phase.fading, alpha, phase.batch_size))
        assert iteration_at(phases, seen) == len(steps) - 1
        seen += phase.batch_size
    assert iteration_at(phases, seen) == len(steps)
    return steps


def test_phases_by_hand():
    # 10 images, 2 epochs: 20 images are 5 batches of 4, and 10 batches of 2 at 16 rows
    steps = walk(make_phases(16, 10, epochs=2, batch_size=4, batch_sizes={16: 2}))
    expected = [(4, False, 1.0, 4)] * 5
    expected += [(8, True, k / 5, 4) for k in range(5)] + [(8, False, 1.0, 4)] * 5
    expected += [(16, True, k / 10, 2) for k in range(10)] + [(16, False, 1.0, 2)] * 10
    assert steps == expected


def test_a_phase_is_whole_batches_and_never_empty():
    phases = make_phases(8, 3, epochs=1, batch_size=8)
    assert [p.images for p in phases] == [8, 8, 8]


def test_epochs_by_resolution_by_hand():
    # 4 rows are left out: 8 rows have nothing to fade in from
    steps = walk(make_phases(16, 10, epochs=2, batch_size=5, epochs_at={4: 0, 16: 1}))
    assert steps == [(8, False, 1.0, 5)] * 4 + [(16, True, k / 2, 5) for k in range(2)] + [(16, False, 1.0, 5)] * 2


def has_r1(number):
    """Has the step of this number the term? Asked of the losses themselves."""
    ones = torch.ones(2, 1)
    return "r1" in discriminator_losses("r1", lambda x, batches=1: 2 * x, ones, ones, None, 1.0, number)


@pytest.mark.parametrize("loss", ["wgan_gp", "r1"])
@pytest.mark.parametrize("epochs", [1, 3, 20])
def test_the_step_that_is_rehearsed_for_its_memory_is_the_heaviest(loss, epochs):
    config = LayoutSettings(store="s", name="x", loss=loss)
    phases = make_phases(16, 10, epochs, batch_size=5, batch_sizes={4: 2, 16: 3})
    steps, seen = {}, 0
    while seen < total_images(phases):
        step = layout_stage.plan(seen, config, phases)
        weight = step.saved["resolution"] ** 2 * step.batch_size
        steps[seen] = weight * (2 if loss == "r1" and has_r1(step.number) else 1)
        seen += step.batch_size
    assert steps[layout_stage.heaviest(phases, loss)] == max(steps.values())


@pytest.mark.parametrize(
    "loss, pretraining, number", [("wgan_gp", 40, 14), ("r1", 40, 17), ("r1", 0, 1), ("r1", 95, 33)]
)
def test_stage_3_rehearses_a_step_of_all_networks_with_r1(loss, pretraining, number):
    config = FinetuneSettings(
        store="s", name="x", layout_name="a", spade_name="b", layout_loss=loss, batch_size=3, niter=2, niter_decay=1
    )
    seen = joint_stage.heaviest(config, pretraining, total=pretraining + 3 * 40)
    step = in_epochs(seen, config, 40, {}, before=pretraining)
    assert seen >= pretraining and step.number == number and (loss == "wgan_gp" or has_r1(step.number))
