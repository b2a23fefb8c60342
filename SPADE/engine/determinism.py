"""The same bits from the same command on a GPU, where some kernels add in an order of their own."""

import contextlib
import os

import torch


@contextlib.contextmanager
def deterministic(wanted: bool):
    """Inside, PyTorch takes deterministic kernels; where there is none it warns, naming the operation, and goes on."""
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
