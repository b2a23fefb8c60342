"""Tests that need a GPU: every stage there in every precision, exact resume, NCCL, no waiting within a step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from SPADE.engine import distributed
from SPADE.engine.step import to_host
from tests.runs import FLAGS, MAIN, differences, final

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
ROOT = Path(__file__).parent.parent.parent


STOP = "from runs import SignalAt\nSignalAt(15, 3)()\n"  # SIGTERM at the third update of an optimiser


def run(stage, store, folder, *flags, before="", status=0):
    """Output of a process of its own, as CUDA cannot be forked. before: Python to run there first."""
    places = ["--store", store, "--weights", folder / "weights", "--logs", folder / "logs", "--name", stage]
    arguments = [str(flag) for flag in (*places, "--log_every", 1, *FLAGS[stage], "--device", "cuda", *flags)]
    program = f"{before}\nfrom {MAIN[stage].__module__} import main\nmain({arguments!r})"
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_every_stage_in_every_precision(toy_store, tmp_path, precision):
    for stage in ("layout", "spade", "finetune"):
        assert "in a step at most" in run(stage, toy_store, tmp_path, "--precision", precision)
        for key, value in final(stage, tmp_path).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                assert value.dtype == torch.float32 and value.isfinite().all(), key


@pytest.mark.parametrize("stage", ["layout", "spade"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(toy_store, tmp_path, stage):
    run(stage, toy_store, tmp_path / "whole", "--deterministic")
    run(stage, toy_store, tmp_path / "parts", "--deterministic", before=STOP, status=143)
    assert "continuing from" in run(stage, toy_store, tmp_path / "parts", "--deterministic")
    assert differences(final(stage, tmp_path / "whole"), final(stage, tmp_path / "parts")) == []


def test_nccl_with_one_process(tmp_path):
    dist.init_process_group("nccl", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        assert torch.equal(distributed.total(torch.arange(4.0, device="cuda")), torch.arange(4.0, device="cuda"))
    finally:
        dist.destroy_process_group()


def test_reports_reach_the_host_without_waiting():
    torch.cuda.set_sync_debug_mode("error")
    try:
        copy, arrived = to_host(torch.arange(3.0, device="cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    arrived.synchronize()
    assert copy.tolist() == [0, 1, 2]


@pytest.mark.parametrize("stage", ["layout", "spade", "finetune"])
def test_a_step_does_not_wait_for_the_device(toy_store, tmp_path, stage):
    """PyTorch itself says where the host waits; here it is told to fail there, within every step but the rehearsal."""
    for earlier in ("layout", "spade"):
        if stage == "finetune":
            run(earlier, toy_store, tmp_path)
    watch = """
import torch
from SPADE.engine import loop, step

descend, made = step.descend, 0

def watched(*arguments, **more):
    global made
    made += 1
    torch.cuda.set_sync_debug_mode("error" if made > 4 else "default")  # the first choose kernels
    try:
        return descend(*arguments, **more)
    finally:
        torch.cuda.set_sync_debug_mode("default")

loop.descend = watched
"""
    run(stage, toy_store, tmp_path, before=watch)
