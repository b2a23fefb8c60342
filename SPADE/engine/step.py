"""One training step: what is due at it, how the optimisers make it, and the guard that may leave it out.

What is due is a pure function of the images seen before it. The guard leaves out a step whose losses or gradients are
not finite. Before the first step, one is rehearsed to measure the memory that it takes.
"""

import contextlib
import math
from dataclasses import dataclass

import torch

from datasets.errors import UserError
from SPADE.engine.device import forget_peak, peak_memory
from SPADE.engine.distributed import average_gradients, rank, waiting_for_others, world_size
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import Buffers


@dataclass(frozen=True)
class Step:
    """One step, as a stage's schedule plans it."""

    images_seen: int  # before it
    batch_size: int  # over all processes
    number: int  # steps made when this one has been made
    rates: dict[str, float]  # optimiser -> learning rate
    averaged: int  # images that the averages have followed when it is made; 0: they do not follow yet
    where: str  # its place in the schedule, in words for people,
    curves: dict[str, float]  # in numbers for the log,
    saved: dict  # and for checkpoints
    pictures: bool  # are they due after it, whatever --picture_every says?
    scores: bool  # are they due after it?
    checkpoint: int | None  # its number, of epochs or iterations; None: none is due


def in_epochs(images_seen: int, config, epoch_images: int, rates: dict, before: int = 0) -> Step:
    """The step of a training whose rates are constant for niter epochs and fall to 0 in niter_decay further ones.

    rates: optimiser -> (learning rate, does it fall?); before: images that are seen before the first epoch begins.
    """
    trained = images_seen - before  # negative before the first epoch
    then = trained + config.batch_size
    factor = linear_decay(max(trained, 0), epoch_images, config.niter, config.niter_decay)
    rates = {name: rate * factor if falls else rate for name, (rate, falls) in rates.items()}
    number, epoch = (images_seen + config.batch_size) // config.batch_size, max(then, 0) // epoch_images
    last = then >= (config.niter + config.niter_decay) * epoch_images

    def due(epochs):
        """Does a multiple of so many epochs end with this step, or the training itself? 0 is never."""
        images = epochs * epoch_images
        return epochs > 0 and then > 0 and (last or then // images > max(trained, 0) // images)

    return Step(
        images_seen=images_seen,
        batch_size=config.batch_size,
        number=number,
        rates=rates,
        averaged=max(then, 0),
        where=f"epoch {epoch}",
        curves={f"learning_rate/{name}": rate for name, rate in rates.items()},
        saved={"epoch": epoch},
        pictures=last or number == 1,
        scores=due(config.evaluate_every),
        checkpoint=epoch if last or due(config.save_every) else None,
    )


def linear_decay(images_seen: int, epoch_images: int, constant_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for constant_epochs, then linear to 0 in decay_epochs."""
    beyond = images_seen / epoch_images - constant_epochs
    return 1.0 if beyond <= 0 else max(0.0, 1 - beyond / max(decay_epochs, 1))


def every(period: int, steps: int) -> bool:
    """Is this one of every `period` steps? A period of 0 is never."""
    return period > 0 and steps % period == 0


@contextlib.contextmanager
def frozen(*networks):
    """Keeps gradients from these networks' parameters; they still flow through the networks."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


@contextlib.contextmanager
def unmoved(network):
    """Puts back, on leaving, the buffers (running statistics, spectral vectors) that a network in training wrote."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)


def adam(parameters, beta2: float, lr: float = 1e-3):
    """The optimiser of all GANs here. Fused: it takes one launch for all parameters, and can leave a step out by a flag
    that stays on the device (see `Guard`)."""
    return torch.optim.Adam(parameters, lr=lr, betas=(0.0, beta2), fused=True)


def micro_batches(size: int, *values) -> list:
    """Cuts a process's batch into parts of at most `size` samples (0: one part): [(share of the batch, values)].

    values: tensors [N,...], dictionaries of these, or None; the first is a tensor.
    """
    n = len(values[0])
    size = min(size or n, n)
    starts = range(0, n, size)
    return [(min(size, n - i) / n, [cut(value, slice(i, i + size)) for value in values]) for i in starts]


def cut(value, rows: slice):
    if isinstance(value, dict):
        return {name: cut(inner, rows) for name, inner in value.items()}
    return None if value is None else value[rows]


def descend(terms_of, batches, *optimizers, guard=None, kind: str = "", autocast=None) -> dict:
    """Backward of the sum of the weighted loss terms, part by part, then one step of each optimiser.

    terms_of: values of a part -> {name: loss, a mean over its samples}; batches: `micro_batches`; guard: leaves out a
    step that is not finite; autocast: context in which the losses are computed.
    Returns the terms as means over the batch of all processes, their names after the kind of descent ("generator/").
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    values = 0
    for i, (share, part) in enumerate(batches):
        if guard and i:
            guard.rewind_estimates()
        with autocast or contextlib.nullcontext():
            terms = terms_of(*part)
        (share * sum(terms.values())).backward()
        values = values + share * torch.stack([value.detach().float() for value in terms.values()])
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    values = average_gradients(gradients, values)
    bad = guard.judge(kind, list(terms), values, gradients) if guard else None
    for optimizer in optimizers:
        optimizer.found_inf = bad  # a fused Adam changes nothing where this is 1
        optimizer.step()
    return {kind + name: value for name, value in zip(terms, values / world_size(), strict=True)}


def set_learning_rate(optimizer, rate: float):
    for group in optimizer.param_groups:
        group["lr"] = rate


# --- Steps with a non-finite loss or gradient are not made; too many in a row end the run ---

MOST_IN_A_ROW = 20


class Guard:
    """Decides for each descent whether its step is made, alike on all processes.

    The device decides by itself (`judge`). The host reads the reason at the next descent, when the numbers have long
    arrived, so that it never waits for the device and always has work queued for it.
    """

    def __init__(self, networks, skipped: dict, folder: RunFolder):
        self.buffers = Buffers(networks)
        self.rewind_estimates = self.buffers.rewind_estimates
        self.skipped, self.folder = skipped, folder
        self.in_a_row, self.first = {}, {}  # by kind of descent: bad ones in a row, name of the first bad term
        self.unread = None  # of the last descent: kind, names, report, and the event that says the report has arrived

    def judge(self, kind: str, names: list[str], values: torch.Tensor, gradients) -> torch.Tensor:
        """Is the step to be left out? float [], 0 or 1, on the device.

        values: of the terms of these names, summed over all processes; gradients: averaged over them.
        """
        norm = torch.nn.utils.get_total_norm(gradients)
        report = torch.cat([values, norm[None].to(values)])
        bad = report.isfinite().all().logical_not()
        self.buffers.keep_unless(bad)
        self.read()
        self.unread = kind, names, *to_host(report)
        return bad.float()

    def read(self):
        """Reads what the last descent reported; called before a checkpoint, so that its counts are complete."""
        if self.unread is None:
            return
        (kind, names, report, arrived), self.unread = self.unread, None
        if arrived:
            with waiting_for_others():  # on a GPU the host waits here, not in the collective
                arrived.synchronize()
        *values, norm = report.tolist()
        culprits = [f"{kind}{name}" for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
        if not culprits and not math.isfinite(norm):
            culprits = [f"{kind}gradient"]
        if culprits:
            self.count(kind, culprits)
        else:
            self.in_a_row[kind] = 0

    def count(self, kind, culprits):
        for name in culprits:
            self.skipped[name] = self.skipped.get(name, 0) + 1
        if not self.in_a_row.get(kind):
            self.first[kind] = culprits[0]
        in_a_row = self.in_a_row[kind] = self.in_a_row.get(kind, 0) + 1
        if rank() == 0:
            print(f"\nnot finite: {', '.join(culprits)}; this step is not made ({in_a_row} in a row)", flush=True)
        if in_a_row >= MOST_IN_A_ROW:
            raise UserError(
                f"{MOST_IN_A_ROW} steps in a row had losses or gradients that are not finite, first "
                f"{self.first[kind]}; the last good checkpoint is {self.folder.last_good}; begin a run with a lower "
                "rate, or look at the data"
            )


def to_host(tensor):
    """Copies to the CPU without waiting: (copy, event after which it is complete; None if it is at once)."""
    if tensor.device.type != "cuda":
        return tensor, None
    copy = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return copy, arrived


# --- What a training will need, measured before it begins ---

MIB = 2**20


class Rehearsal:
    """Takes the guard's place: no step is made, and buffers that the forward passes wrote to are put back."""

    def __init__(self, networks):
        self.buffers = Buffers(networks)
        self.rewind_estimates = self.buffers.rewind_estimates

    def judge(self, kind, names, values, gradients):
        bad = torch.ones((), dtype=torch.bool, device=values.device)
        self.buffers.keep_unless(bad)
        return bad.float()


def measure_memory(networks: dict, optimizers: dict, step, device, what: str):
    """Rehearses one step, and prints the numbers of parameters, the optimisers' memory and the step's peak memory.

    step: function of a guard that makes one step; what: which step it is, in words. Afterwards all is as before, but
    that the optimisers have allocated their state.
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
