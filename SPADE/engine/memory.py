"""What a training will need, measured before it begins."""

import contextlib
import sys
from pathlib import Path

import torch

from SPADE.engine.buffers import Buffers
from SPADE.engine.distributed import rank

MIB = 2**20


class Rehearsal:
    """Stands in the guard's place: no step is made, and the buffers that the forward passes wrote are put back."""

    def __init__(self, networks):
        self.buffers = Buffers(networks)
        self.rewind_estimates = self.buffers.rewind_estimates

    def judge(self, kind, names, values, gradients):
        bad = torch.ones((), dtype=torch.bool, device=values.device)
        self.buffers.keep_unless(bad)
        return bad.float()


def measure_memory(networks: dict, optimizers: dict, step, device, what: str):
    """Prints parameters, the optimisers' memory, and the most that is in use in a step, which is rehearsed for it.

    step: function of a guard that makes one step; what: which step it is, in words. Nothing is changed by it but that
    the optimisers' state exists.
    """
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    forget_peak(device)
    step(Rehearsal(networks.values()))
    peak = peak_memory(device)
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    if rank() == 0:
        print("parameters: " + ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items()))
        weights = sum(tensor_bytes(network.parameters()) for network in networks.values())
        states = sum(tensor_bytes(s.values()) for o in optimizers.values() for s in o.state.values())
        print(
            f"memory: weights {weights / MIB:.0f} MiB, optimisers {states / MIB:.0f} MiB, in a step at most "
            f"{peak / MIB:.0f} MiB in all ({what}{'' if device.type == 'cuda' else '; the program itself included'})",
            flush=True,
        )


def tensor_bytes(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


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
