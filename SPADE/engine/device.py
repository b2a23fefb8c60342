"""Where a program runs: decided once, here."""

import contextlib
import ctypes
import hashlib
import os
import random
import re

import numpy as np
import torch

from datasets.errors import UserError


def pick(name: str | None = None) -> torch.device:
    """CUDA by default; without one the CPU, which is said once."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and os.environ.get("RANK", "0") == "0":
            print("no CUDA device found: running on the CPU", flush=True)
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise UserError(f"--device is {name!r}, but must be cpu, cuda or cuda:N; pass one of these")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device is {name}, but PyTorch sees no CUDA device here; leave the flag out or pass cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device is {name}, but must be below cuda:{torch.cuda.device_count()}; pass a lower number")
    return device


def keep_freed_memory():
    """Has glibc keep large blocks when they are freed, instead of giving them back and fetching them anew.

    The system hands memory out page by page, each filled with zeros first: on a CPU that took a fifth of a step. For
    the whole process, so programs do it and libraries do not.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def place(network: torch.nn.Module, device) -> torch.nn.Module:
    """Onto the device, convolution weights channels last: faster on CPUs and GPUs alike, the same numbers."""
    return network.to(device, memory_format=torch.channels_last)


def to_device(tensor: torch.Tensor, device) -> torch.Tensor:
    """To a GPU by way of pinned memory: from any other the host would wait until all work queued before is done."""
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def seed_everything(seed: int):
    """For the initial weights: the same on every process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_step(seed: int, images_seen: int, rank: int = 0):
    """Makes all noise of a step a function of these three numbers: nothing has to be saved to draw it again."""
    digest = hashlib.sha256(f"{seed} {images_seen} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little", signed=True))
