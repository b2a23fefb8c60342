"""Devices that are none; memory that stays with a process which asks for that; determinism, inside only."""

import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from datasets.errors import UserError
from SPADE.engine.device import Ahead, deterministic, pick

ROOT = Path(__file__).parent.parent.parent.parent
PROGRAM = """
import torch
from SPADE.engine.device import keep_freed_memory
{first}
x = torch.ones(64 << 20)  # 256 MiB
del x
print(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
"""


def resident_after_freeing(first: str) -> int:
    """In KiB, of a process of its own."""
    command = [sys.executable, "-c", PROGRAM.format(first=first)]
    return int(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept():
    kept, returned = resident_after_freeing("keep_freed_memory()"), resident_after_freeing("")
    assert kept - returned > 200 << 10


@pytest.mark.parametrize("name", ["", "gpu", "meta", "cuda:", "cuda:-1", "cpu:x", "cuda:99999999999"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(UserError, match=f"^--device is '{name}', but must be cpu, cuda or cuda:N"):
        pick(name)


def test_it_is_asked_for_inside_only():
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_operation_without_such_a_kernel_is_named():
    with deterministic(True), pytest.warns(UserWarning, match="deterministic"):
        torch.histc(torch.rand(100, device="cuda"), 10)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
        ),
    ],
)
def test_batches_are_read_ahead_and_are_those_that_were_asked_for(device):
    asked, began = [], threading.Event()

    def read(seen, size, height):
        asked.append(seen)
        if len(asked) > 1:
            began.set()
        return torch.arange(seen, seen + size), torch.full((size, 2), height)

    ahead, seen = Ahead(read, device), 0
    for size, height in [(4, 8)] * 3 + [(2, 8), (2, 16), (2, 16)]:
        numbers, heights = ahead(seen, size, height)
        assert numbers.tolist() == list(range(seen, seen + size)) and heights.tolist() == [[height] * 2] * size
        assert numbers.device.type == heights.device.type == device
        assert began.wait(60)  # the one after the first, before anybody has asked for it
        seen += size
    numbers, _ = ahead(0, 4, 8)  # as after a rehearsal
    assert numbers.tolist() == [0, 1, 2, 3]
    ahead.thread.shutdown()
    assert asked == [0, 4, 8, 12, 12, 14, 14, 16, 18, 0, 4]
