"""python -m SBGAN.benchmark: how fast the product's form of each stage is beside the plain form, in one run.

The forms of a case, the product's in one or several number formats, take turns on the same pairs. For each: median
time, images a second, operations counted by PyTorch's counter (convolutions and matrix products, 2 for a multiply-add),
what share of this machine's convolution rate, measured in between in the form's number format, that makes, calls of
PyTorch's operations, and the peak memory: what a process of its own needs beyond its imports, on a GPU what is
allocated from the networks on. There the file also says how many launches a step takes.

Examples:
    python -m SBGAN.benchmark --repeats 3
    python -m SBGAN.benchmark --store packed/camvid_256 --precisions fp32,bf16 --json figures.json
"""

import contextlib
import dataclasses
import json
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from datasets.errors import UserError, exit_on_user_error
from datasets.files import replacing
from SBGAN.benchmark.cases import CASES, FORMS, Sizes, load_pairs
from SPADE.engine import config as settings
from SPADE.engine.compilation import as_written, check_compiler, step_begins
from SPADE.engine.config import require, setting
from SPADE.engine.device import (
    PRECISIONS,
    autocast,
    forget_peak,
    keep_freed_memory,
    peak_memory,
    pick,
    seed_everything,
    set_precision,
)
from SPADE.engine.distributed import join_processes


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
    """Replaces the counter's record of which module is running, which fails on torch.autograd.grad."""

    parents = ("Global",)

    def __exit__(self, *exception):
        return None


class Calls(TorchDispatchMode):
    """Counts calls of PyTorch's operations; most of them are a launch on a GPU."""

    made = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        self.made += 1
        return operation(*arguments, **(keywords or {}))


def count_operations(step) -> tuple[int, int]:
    """Counts the multiplications and additions of a step's products, and its calls of any operation."""
    counter, calls = FlopCounterMode(display=False), Calls()
    counter.mod_tracker = NoModules()
    with as_written(), counter, calls:
        step(0)
    return counter.get_total_flops(), calls.made


def count_launches(step, device) -> int | None:
    """Counts the kernels that a step launches on a GPU."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step(0)
        torch.cuda.synchronize(device)
    return sum(event.count for event in profiler.key_averages() if "LaunchKernel" in event.key)


def convolution_rate(precision: str, device) -> float:
    """Operations a second of a 3x3 convolution that suits the machine: 256 channels, 64x128 pixels, channels last."""
    x = torch.randn(4, 256, 64, 128, device=device).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(256, 256, 3, padding=1).to(device, memory_format=torch.channels_last)
    with torch.no_grad(), autocast(precision, device):
        times = [seconds(lambda _: conv(x), 0, precision, device) for _ in range(4)]
    return 2 * 9 * 256 * x.numel() / min(times[1:])


@dataclass(frozen=True)
class BenchmarkSettings(Sizes):
    cases: str = setting(",".join(CASES), "which ones, separated by commas")
    precisions: str = setting("fp32", "of the product's form, separated by commas; the plain form is float32")
    compile: bool = setting(False, "the product's form by torch.compile, too, which takes minutes to begin")
    repeats: int = setting(5, "timed steps of each form", at_least=1)
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    threads: int = setting(0, "of PyTorch on the CPU; 0: as PyTorch finds best", at_least=0)
    memory: bool = setting(True, "measure peak memory (--no_memory: leave it out)")
    json: str = setting("", "file for the figures; default none")
    peak_of: str = setting("", "only print the peak memory of one form ('plain', 'product fp32', ...), in bytes")


def print_peak(config: BenchmarkSettings, device):
    """Prints the peak of two steps (the first makes the optimisers' state) and their networks, beyond the imports'."""
    pairs = load_pairs(config, device, num=4)
    before = 0 if device.type == "cuda" else peak_memory(device)
    step = CASES[config.cases](config, pairs, FORMS[config.peak_of], device)
    for i in range(2):
        step(i)
    print(peak_memory(device) - before)


def peak_in_own_process(config: BenchmarkSettings, case: str, form: str, device) -> int:
    own = dataclasses.replace(config, cases=case, peak_of=form, device=str(device), json="")
    flags = [f"--{name}={value}" for name, value in settings.to_dict(own).items() if type(value) in (int, str)]
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "SBGAN.benchmark", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    if done.returncode:
        raise UserError(f"--peak_of {form} of {case} failed: {done.stderr.strip()[-300:]}; leave it out by --no_memory")
    return int(done.stdout.split()[-1])


def peak(step, config: BenchmarkSettings, case: str, form: str, device, allocated: int) -> int:
    """Bytes. allocated: on a GPU before the form's networks were made."""
    if device.type != "cuda":
        return peak_in_own_process(config, case, form, device)
    forget_peak(device)
    step(0)
    return peak_memory(device) - allocated


def turn(step, steps: int):
    """As many steps as lie between two penalties, the first of which has one."""
    return step if steps == 1 else lambda i: [step(steps * i + k) for k in range(steps)]


def begun(step):
    """A step of compiled networks, as the loop makes it."""

    def made(i):
        step_begins()
        return step(i)

    return made


def measure(case: str, forms: list[str], config: BenchmarkSettings, pairs, device) -> dict:
    """Figures of one case, by form."""
    steps, operations, launches, peaks, first = {}, {}, {}, {}, {}
    each = config.penalty_every  # steps in a turn
    for name in forms:
        allocated = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        seed_everything(0)
        step = CASES[case](config, pairs, FORMS[name], device)
        if FORMS[name].compiled:
            step = begun(step)
            first[name] = seconds(step, 0, FORMS[name].precision, device)  # of TF32 now, or it would be compiled again
        steps[name] = step = turn(step, each)
        operations[name] = count_operations(step)  # which also warms up, and makes the optimisers' state
        peaks[name] = peak(step, config, case, name, device, allocated) if config.memory else None
        launches[name] = count_launches(step, device)
    times, rates = {name: [] for name in forms}, {FORMS[name].precision: [] for name in forms}
    for i in range(config.repeats):
        for precision, found in rates.items():
            found.append(convolution_rate(precision, device))
        for name in forms[i % len(forms) :] + forms[: i % len(forms)]:
            times[name].append(seconds(steps[name], i + 1, FORMS[name].precision, device) / each)
    del steps
    rates = {precision: statistics.median(found) for precision, found in rates.items()}
    figures, images = {}, config.layout_batch_size if case == "stage_1" else config.batch_size
    for name in forms:
        median = statistics.median(times[name])
        ratios = [plain / own for plain, own in zip(times["plain"], times[name], strict=True)]
        figures[name] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "seconds": median,
            "times": times[name],
            "first_seconds": first.get(name),
            "images_per_second": images / median,
            "operations": operations[name][0] // each,
            "calls": operations[name][1] // each,
            "launches": launches[name] and launches[name] // each,
            "convolution_rate": rates[FORMS[name].precision],
            "rate_share": operations[name][0] / each / median / rates[FORMS[name].precision],
            "peak_bytes": peaks[name],
        }
    return figures


HEAD = f"{'':22} {'seconds':>9} {'images/s':>8} {'ratio (least - most)':>20} {'10^9 operations':>16} {'of rate':>8} "
HEAD += f"{'calls':>6} {'peak MiB':>9}"


def rows(case: str, figures: dict) -> str:
    lines = []
    for form, own in figures.items():
        line = f"{case:9} {form:12} {own['seconds']:9.3f} {own['images_per_second']:8.1f} {own['ratio']:6.2f} "
        line += f"({min(own['ratios']):.2f} - {max(own['ratios']):.2f}) {own['operations'] / 1e9:16.0f} "
        line += f"{own['rate_share']:8.0%} {own['calls']:6} "
        if own["first_seconds"]:
            line += f"(the first step: {own['first_seconds']:.0f} s) "
        if own["peak_bytes"]:
            line += f"{own['peak_bytes'] / 2**20:9.0f} ({own['peak_bytes'] / figures['plain']['peak_bytes']:.2f})"
        lines.append(line)
    return "\n".join(lines)


def machine(device) -> dict:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "python": sys.version[:6]}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run(config: BenchmarkSettings) -> dict:
    names = config.cases.split(",")
    for name in names:
        require(name in CASES, "cases", name, f"out of {', '.join(CASES)}", "name one of them, or several")
    require(config.peak_of in ("", *FORMS), "peak_of", config.peak_of, f"one of {', '.join(FORMS)}", "name one")
    kinds = ["product", "compiled"] if config.compile else ["product"]
    forms = ["plain", *(f"{kind} {name}" for kind in kinds for name in config.precisions.split(","))]
    for name in forms:
        wanted = f"out of {', '.join(PRECISIONS)}"
        require(name in FORMS, "precisions", config.precisions, wanted, "name one of them, or several")
    if config.threads:
        torch.set_num_threads(config.threads)
    device = join_processes(pick(config.device))
    check_compiler(config.compile, device)
    if device.type == "cpu":
        keep_freed_memory()
    if config.peak_of:
        print_peak(config, device)
        return {}
    pairs = load_pairs(config, device)
    record = {"machine": machine(device), "data": pairs.source, "settings": settings.to_dict(config), "cases": {}}
    print(
        f"{record['machine']['device']}, {record['machine']['threads']} threads, layouts of {pairs.source}", flush=True
    )
    print(HEAD)
    for name in names:
        record["cases"][name] = figures = measure(name, forms, config, pairs, device)
        print(rows(name, figures), flush=True)
        if config.json:
            with replacing(Path(config.json)) as temporary:
                temporary.write_text(json.dumps(record, indent=1) + "\n")
    return record


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(BenchmarkSettings, arguments, "SBGAN.benchmark", __doc__))


if __name__ == "__main__":
    main()
