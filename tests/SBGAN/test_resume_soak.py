"""Many kills at moments that nobody chose. `pytest -m soak -s` prints how many."""

import random
import signal
import time

import pytest

from tests.runs import curves, differences, final, train

KILLS = 20  # of each stage


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["layout", "spade", "finetune"])
def test_kills_at_random_moments_leave_no_trace(toy_store, tmp_path, stage):
    whole, draw, kills, runs = tmp_path / "whole", random.Random(stage), 0, 0
    for name in ("layout", "spade", "finetune"):
        begin = time.monotonic()
        assert train(name, toy_store, whole)[0] == 0
        duration = time.monotonic() - begin
        if name == stage:
            break
    while kills < KILLS:
        folder = tmp_path / f"run {runs}"
        (folder / "weights").mkdir(parents=True)
        for name in ("layout", "spade"):
            if stage == "finetune":
                (folder / "weights" / name).symlink_to(whole / "weights" / name)
        status = None
        while status != 0:
            moment = draw.uniform(0.1, 1.0) * duration
            status, output = train(stage, toy_store, folder, "--resume_every", 1, kill_after=moment)
            assert status in (0, -signal.SIGKILL), output
            kills += status != 0
        runs += 1
        assert differences(final(stage, folder), final(stage, whole)) == []
        assert curves(stage, folder) == curves(stage, whole)
    print(f"\n{stage}: {kills} kills in {runs} runs, every one ended as the undisturbed one did, to the bit")
