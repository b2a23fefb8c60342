"""SIGTERM and SIGINT: the step is finished, a checkpoint written, and the program leaves with 143 or 130."""

import contextlib
import signal
import sys
import threading

import torch

from SPADE.engine.distributed import barrier, total

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    def __init__(self):
        self.received = [0, 0]  # SIGTERMs and SIGINTs that this process got
        self.signal = None  # that all processes agree to stop for

    def receive(self, number, frame):
        if number == signal.SIGINT and self.received[1]:
            raise KeyboardInterrupt  # the second one: at once
        self.received[SIGNALS.index(number)] += 1
        name, again = signal.Signals(number).name, "; again: at once" if number == signal.SIGINT else ""
        print(f"\n{name}: finishing this step, then saving{again}", file=sys.stderr, flush=True)

    def agree(self):
        """Lets all processes, which call it together, stop for a signal that any one of them got."""
        for number, count in zip(SIGNALS, total(torch.tensor(self.received)).tolist(), strict=True):
            if count and self.signal is None:
                self.signal = number

    def leave(self):
        """Ends this process after the checkpoint, when all have come so far."""
        barrier()  # torchrun ends the others, process 0 at its writing, as soon as one has left
        sys.exit(128 + self.signal)


@contextlib.contextmanager
def stop_requests():
    """Inside, the first of these signals is only taken note of."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
        yield stop
        return
    before = {number: signal.signal(number, stop.receive) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
