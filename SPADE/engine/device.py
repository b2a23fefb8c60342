"""Decides once where and how a program computes: device, number format, memory, determinism, seeds, modes."""

import contextlib
import ctypes
import hashlib
import os
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from datasets.errors import UserError
from SPADE.engine.compilation import as_written

# Of a training's products: float32, float32 with TF32 products, or bfloat16 by autocast. Weights, optimisers, averages,
# batch statistics, losses and the gradient penalty are float32 whatever is chosen.
PRECISIONS = ("fp32", "tf32", "bf16")


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
    """Lets glibc keep large blocks that are freed, instead of returning them to the system and asking for new ones.

    The system hands memory out page by page, each filled with zeros first: on a CPU that took a fifth of a step. It
    holds for the whole process, so programs call it and library functions do not.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def place(network: torch.nn.Module, device) -> torch.nn.Module:
    """Moves a network to the device, convolution weights channels last: faster on CPUs and GPUs, the same numbers."""
    return network.to(device, memory_format=torch.channels_last)


def to_device(tensor: torch.Tensor, device) -> torch.Tensor:
    """Moves to a GPU by way of pinned memory: a copy from other memory would wait until all queued work is done."""
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Ahead:
    """Reads batches onto the device, each while the step before it is made, so that a step finds its batch there.

    read: (images seen, batch size, ...) -> tensors on the CPU, a function of these alone: a run that is continued sees
    what it would have seen. A batch that was read ahead but is not the one asked for next is dropped.
    """

    def __init__(self, read, device):
        self.read, self.device = read, torch.device(device)
        self.thread = ThreadPoolExecutor(1)  # one thread: a reader need not be safe for two
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.expected, self.coming = None, None

    def __call__(self, images_seen: int, batch_size: int, *more) -> list:
        asked = images_seen, batch_size, *more
        coming = self.coming if asked == self.expected else self.thread.submit(self.fetch, *asked)
        tensors, arrived = coming.result()
        self.expected = images_seen + batch_size, batch_size, *more
        self.coming = self.thread.submit(self.fetch, *self.expected)
        if arrived is None:
            return [to_device(tensor, self.device) for tensor in tensors]
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(arrived)
        for tensor in tensors:
            tensor.record_stream(computing)  # or its memory would be given to the batch after the next too early
        return tensors

    def fetch(self, *asked):
        """(Tensors, event after which a GPU has them; None: they are on the CPU.)"""
        tensors = self.read(*asked)
        if self.stream is None:
            return tensors, None
        with torch.cuda.stream(self.stream):
            return [to_device(tensor, self.device) for tensor in tensors], self.stream.record_event()


def seed_everything(seed: int):
    """Seeds what draws the initial weights: the same on every process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_step(seed: int, images_seen: int, rank: int = 0):
    """Makes all noise of a step a function of these three numbers, so that no random state has to be saved."""
    digest = hashlib.sha256(f"{seed} {images_seen} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def set_precision(name: str, device: torch.device):
    """Sets the format of products for the whole process (TF32 is a global switch); says what the device cannot do."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    if name == "tf32" and device.type != "cuda":
        print(f"--precision tf32 is a format of GPUs: on this {device.type} all stays float32", flush=True)
    if name == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print("--precision bf16: this CPU has no instructions for it, so it will be slower than fp32", flush=True)


def autocast(name: str, device: torch.device) -> torch.autocast:
    """Context for the computation of losses, to be entered anew for each (it caches weights)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16")


def widened(x: torch.Tensor) -> torch.Tensor:
    """bfloat16 as float32; wider types as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextlib.contextmanager
def deterministic(wanted: bool):
    """Has PyTorch take deterministic kernels, if wanted; on a GPU some of the others add in a varying order.

    The same command then gives the same bits. Where there is no such kernel PyTorch warns, naming the operation.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS makes its first handle
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def evaluating(*networks):
    """Puts networks into evaluation mode, without gradients and run as they are written (see `compilation`); on leaving
    every submodule is back in the mode that it had."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        with torch.no_grad(), as_written():
            yield
    finally:
        for module, training in modes:
            module.training = training


def forget_peak(device):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of resident memory begins anew


def peak_memory(device) -> int:
    """Most that was in use at once since `forget_peak`, in bytes: a GPU's allocations, else this process's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()  # getrusage also counts what was there before exec
        return int(status.split("VmHWM:")[1].split()[0]) << 10
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
