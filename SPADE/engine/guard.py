"""Steps with a non-finite loss or gradient are not made; too many in a row end the run."""

import math

import torch

from datasets.errors import UserError
from SPADE.engine.distributed import rank
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.stopping import StopRequest
from SPADE.engine.watch import waiting_for_others

MOST_IN_A_ROW = 20


class Guard:
    """Decides over each descent, the same on all processes, by one small tensor that is read once per descent.

    Forward passes write buffers (averages of batch norm, spectral vectors), so these are copied after each good
    descent and put back after a bad one.
    """

    def __init__(self, networks, skipped: dict, stop: StopRequest, folder: RunFolder):
        self.buffers = [buffer for network in networks for buffer in network.buffers()]
        self.good_buffers = [buffer.clone() for buffer in self.buffers]
        self.skipped, self.stop, self.folder = skipped, stop, folder
        self.in_a_row, self.first = {}, {}  # by kind of descent: bad ones in a row, name of the first bad term

    def signals(self) -> list[int]:
        """How many SIGTERMs and SIGINTs this process got."""
        return self.stop.received

    def accept(self, kind: str, names: list[str], report: torch.Tensor, gradients) -> bool:
        """Is the step to be made? report: the terms' values and `signals`, summed over all processes; gradients:
        averaged over them."""
        norm = torch.nn.utils.get_total_norm(gradients)
        with waiting_for_others():  # on a GPU the host waits here, not in the collective
            *values, terminations, interrupts, norm = torch.cat([report, norm[None]]).tolist()
        self.stop.agree((terminations, interrupts))
        culprits = [f"{kind}{name}" for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
        if not culprits and not math.isfinite(norm):
            culprits = [f"{kind}gradient"]
        if not culprits:
            self.in_a_row[kind] = 0
            copy_all(self.buffers, self.good_buffers)
            return True
        copy_all(self.good_buffers, self.buffers)
        self.count(kind, culprits)
        return False

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


def copy_all(source: list, target: list):
    if source:
        torch._foreach_copy_(target, source)  # one call for hundreds of small tensors
