"""Processes of one run look after one another: when one dies or hangs, the others end and say which it was.

A thread of each process writes to the store that they share, every second, how far its main thread is; and reads what
the others write. Nobody may be silent for SILENCE seconds, nor take PATIENCE seconds for a step (or four times the
longest so far). What lies between steps (evaluation, pictures, checkpoints) may take as long as it likes.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time

import torch.distributed as dist

SILENCE, PATIENCE, FIRST_STEPS = 15, 40, 3  # the first steps may take ten minutes: kernels are chosen and compiled
waiting = threading.Event()  # this process's main thread waits for the others
steps = {"begun": 0, "since": None, "longest": 0.0}  # of this process's main thread


@contextlib.contextmanager
def watched_step():
    """Tells the other processes how long the step inside takes."""
    steps["begun"] += 1
    steps["since"] = time.monotonic()
    try:
        yield
        if steps["begun"] > FIRST_STEPS:
            steps["longest"] = max(steps["longest"], time.monotonic() - steps["since"])
    finally:
        steps["since"] = None


@contextlib.contextmanager
def waiting_for_others():
    """Excuses what may block inside because another process is late: that is not this one's fault."""
    waiting.set()
    try:
        yield
    finally:
        waiting.clear()


def verdict(report: dict, silent: int) -> str | None:
    """Says what is wrong with a process that last reported this, `silent` seconds ago."""
    if report["left"]:
        return None if report["left"] == "done" else f"ended: {report['left']}"
    if silent > SILENCE:
        return f"has not been heard of for {silent} s: dead, stopped or cut off"
    patience = max(PATIENCE, 4 * report["longest"]) if report["begun"] > FIRST_STEPS else 600
    if report["in_step"] > patience and not report["waiting"]:
        return f"has been in one step for {report['in_step']:.0f} s: it hangs"
    return None


class Watch(threading.Thread):
    def __init__(self, rank: int, world_size: int, store):
        super().__init__(daemon=True)
        self.rank, self.peers, self.store = rank, [r for r in range(world_size) if r != rank], store
        self.left, self.beats = "", 0
        self.heard = dict.fromkeys(self.peers, (None, 0))  # their last report, and for how many rounds it is the last
        self.unanswered = 0  # seconds since the store answered
        self.over = threading.Event()
        self.store_watch = threading.Thread(target=self.look_at_store, daemon=True)

    def run(self):
        self.store_watch.start()
        while not self.over.is_set():
            try:
                self.publish()
                for peer in self.peers:
                    self.look_at(peer)
            except RuntimeError:
                if not self.over.wait(5):
                    end(f"{keeper()} has ended")
                return
            self.unanswered = 0
            self.over.wait(1)

    def stop(self):
        """Ends both threads: one that is in a call of the store when the interpreter goes would abort the process."""
        self.over.set()
        self.join()
        self.store_watch.join()

    def look_at_store(self):
        """Counts how long the store is silent: where what keeps it is cut off, asking it neither returns nor raises."""
        while self.is_alive():
            self.join(1)
            self.unanswered += 1
            if self.unanswered > 2 * SILENCE:
                end(f"{keeper()} has not answered for {self.unanswered} s: stopped or cut off")

    def publish(self):
        self.beats += 1
        since = steps["since"]
        report = {
            "beats": self.beats,
            "begun": steps["begun"],
            "in_step": time.monotonic() - since if since is not None else 0.0,
            "longest": steps["longest"],
            "waiting": waiting.is_set(),
            "left": self.left,
            "where": f"pid {os.getpid()} on {socket.gethostname()}",
        }
        self.store.set(f"process {self.rank}", json.dumps(report))

    def look_at(self, peer):
        key, (before, silent) = f"process {peer}", self.heard[peer]
        report = json.loads(self.store.get(key)) if self.store.check([key]) else None
        silent = silent + 1 if report == before else 0  # own rounds of a second: in a pause of the machine none pass
        self.heard[peer] = report, silent
        if report is None:  # it may begin later than this one
            complaint = f"has not begun within {silent} s" if silent > 3 * SILENCE else None
        else:
            complaint = verdict(report, silent)
        if complaint and not self.left:
            end(f"process {peer}{' (' + report['where'] + ')' if report else ''} {complaint}")


def keeper() -> str:
    """Who keeps the store: torchrun, where it started the processes, else process 0."""
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    launched = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return f"{'the torchrun of process 0' if launched else 'process 0'}, which keeps the store of all at {where},"


def end(message):
    print(f"\nerror: {message}; this process ends too", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread may be stuck in a collective, where no exception reaches it


@contextlib.contextmanager
def together():
    """Inside, the processes watch one another. With one process nothing happens."""
    if not dist.is_initialized():
        yield
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    watch = Watch(dist.get_rank(), dist.get_world_size(), dist.PrefixStore("watch", store))
    watch.start()
    try:
        yield
        with waiting_for_others():
            dist.barrier()  # what others still write is there before one leaves: torchrun may end all when one ends
    except BaseException as error:
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            waiting.set()  # another process failed: let the watch name it
            time.sleep(2 * SILENCE)
        watch.stop()
        watch.left = "done" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(RuntimeError):  # who keeps the store may have left
            watch.publish()
        raise
    watch.stop()
