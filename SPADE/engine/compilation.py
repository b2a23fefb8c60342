"""torch.compile of the networks that a training updates, behind --compile; off by default until a GPU has measured it.

Networks are compiled where they are called: names, state and copies of them stay as they are, and what is scored and
drawn runs as it is written. So do gradient penalties and R1: they differentiate a gradient, which a compiled function
does not offer. Modulations are dense, and convolutions PyTorch's: what `SPADE/ops` gains is the compiler's affair.
"""

import contextlib
import os
import shutil
import sys
from importlib.util import find_spec

import torch

from datasets.errors import UserError

# Forms of one network: resolutions, with and without gradients of weights, training and evaluation.
MOST_FORMS = 128
COMPILING = 1800  # seconds that a step may take in which something is compiled


def check_compiler(wanted: bool, device: torch.device):
    """Raises UserError where networks are to be compiled and what the compiler itself calls is not there."""
    if not wanted:
        return
    on_gpu = device.type == "cuda"
    names = [os.environ.get("CC"), "gcc", "clang", "cc"] if on_gpu else [os.environ.get("CXX"), "g++", "clang++"]
    lacking = [] if any(name and shutil.which(name) for name in names) else ["C compiler" if on_gpu else "g++"]
    lacking += ["triton"] if on_gpu and not find_spec("triton") else []
    if lacking:
        raise UserError(f"--compile is given, but there is no {' and no '.join(lacking)} here, which torch.compile on "
                        f"{device.type} needs; install it, or leave the flag out")  # fmt: skip


def compile_networks(networks, device: torch.device):
    """Compiles each of them, for one shape at a time; on a GPU as CUDA graphs, which one launch replays."""
    torch._dynamo.config.recompile_limit = MOST_FORMS
    for network in networks:
        network.compile(dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None)


def step_begins():
    """Marks the start of a step: CUDA graphs may now overwrite what compiled networks returned before."""
    torch.compiler.cudagraph_mark_step_begin()


@contextlib.contextmanager
def as_written():
    """Runs networks as they are written, compiled or not."""
    if "torch._dynamo" not in sys.modules:  # then nothing has been compiled, and to ask for it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
