"""What is measured of a step: its time, its operations; and of the machine: how fast it convolves."""

import contextlib
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from SPADE.engine.device import autocast, set_precision


def seconds(step, i: int, precision: str, device) -> float:
    if device.type == "cuda":
        set_precision(precision, device)  # TF32 is a property of the process
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step(i)
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1000
    start = time.perf_counter()
    step(i)
    return time.perf_counter() - start


class NoModules(contextlib.AbstractContextManager):
    """In place of the counter's record of which module runs, which does not bear torch.autograd.grad."""

    parents = ("Global",)

    def __exit__(self, *exception):
        return None


def count_operations(step) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter:
        step(0)
    return counter.get_total_flops()


def convolution_rate(precision: str, device) -> float:
    """Operations a second of a 3x3 convolution that suits the machine: 256 channels, 64x128 pixels, channels last."""
    x = torch.randn(4, 256, 64, 128, device=device).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(256, 256, 3, padding=1).to(device, memory_format=torch.channels_last)
    with torch.no_grad(), autocast(precision, device):
        times = [seconds(lambda _: conv(x), 0, precision, device) for _ in range(4)]
    return 2 * 9 * 256 * x.numel() / min(times[1:])
