"""Steps with a non-finite loss or gradient are not made; too many in a row end the run."""

import math

import torch

from datasets.errors import UserError
from SPADE.engine.buffers import Buffers
from SPADE.engine.distributed import rank
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.watch import waiting_for_others

MOST_IN_A_ROW = 20


class Guard:
    """Decides over each descent, the same on all processes.

    The device decides by itself (`judge`); the host reads why at the next descent, when the numbers have long been
    there, so that it never waits for the device and always has work queued for it.
    """

    def __init__(self, networks, skipped: dict, folder: RunFolder):
        self.buffers = Buffers(networks)
        self.rewind_estimates = self.buffers.rewind_estimates
        self.skipped, self.folder = skipped, folder
        self.in_a_row, self.first = {}, {}  # by kind of descent: bad ones in a row, name of the first bad term
        self.unread = None  # kind, names and report of the last descent, and the event that says it has arrived

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
        """Reads what the last descent reported. Before a checkpoint, so that the counts in it are whole."""
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
    """(Its copy on the CPU, event after which the copy holds the values; None: it does already)."""
    if tensor.device.type != "cuda":
        return tensor, None
    copy = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return copy, arrived
