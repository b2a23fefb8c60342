from SBGAN.layout_stage import iteration_at, make_phases, phase_at, total_images


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
