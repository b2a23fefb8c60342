"""Several processes of one run, started by torchrun. Four sections: how they meet, what they exchange (parameters,
gradients, results, work), how they stop on a signal, how they watch one another.

With one process every function here returns at once. No wrappers around networks: parameters are broadcast once,
gradients are averaged as one flat buffer for each step.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from datasets.errors import UserError

# --- Meeting: from the environment that torchrun sets to a group of processes ---

# Process 0 may be busy with scores for longer than NCCL's ten minutes; who dies or hangs is found by `together`.
TIMEOUT = timedelta(hours=2)
LAUNCH = "start several processes by torchrun, or unset WORLD_SIZE for one"


def launched_processes() -> int:
    """Reads from torchrun's environment how many processes there are, 1 without it. Raises UserError on nonsense."""
    if "WORLD_SIZE" not in os.environ:
        return 1
    count = environment_number("WORLD_SIZE", at_least=1)
    if count > 1:
        for name, limit in (("RANK", count), ("MASTER_PORT", 1 << 16)):
            if environment_number(name) >= limit:
                raise UserError(f"{name} is {os.environ[name]}, but must be below {limit}; {LAUNCH}")
        if not os.environ.get("MASTER_ADDR"):
            raise UserError(f"MASTER_ADDR is not set in the environment, but WORLD_SIZE is {count}; {LAUNCH}")
    return count


def environment_number(name: str, at_least: int = 0) -> int:
    text = os.environ.get(name)
    if text is None or not (text.isascii() and text.strip().isdigit()) or int(text) < at_least:
        found = "not set" if text is None else repr(text)
        raise UserError(f"{name} is {found} in the environment, but must be a number from {at_least}; {LAUNCH}")
    return int(text)


def join_processes(device: torch.device) -> torch.device:
    """Joins the group of processes that torchrun's environment describes, if any; returns this process's device."""
    if launched_processes() == 1:
        return device
    if device.type == "cuda":
        local, count = environment_number("LOCAL_RANK"), torch.cuda.device_count()
        if local >= count:
            raise UserError(f"process {local} of this machine has no GPU, there are {count}; start fewer processes")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=TIMEOUT)
        except (ValueError, RuntimeError) as error:  # an address that is none or another's, a port that is taken
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the processes cannot meet at {where}, MASTER_ADDR:MASTER_PORT ({reason}); {LAUNCH}"
            ) from error
    return device


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


# --- Exchanging parameters, gradients, results and work ---

BATCH = 16  # rows that `shared_out` computes at once


def broadcast(*networks):
    """Copies the parameters and buffers of process 0 to all processes."""
    if world_size() > 1:
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.data, 0)


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Sums the tensor over the processes, in place; returns it."""
    if world_size() > 1:
        with waiting_for_others():
            dist.all_reduce(tensor)
    return tensor


def average_gradients(gradients: list, report):
    """Replaces each gradient by its mean over the processes; returns the sum of their reports. One message for both."""
    if world_size() == 1:
        return report
    flat = total(torch.cat([g.flatten() for g in gradients] + [report]))
    *sums, report = flat.split([g.numel() for g in gradients] + [len(report)])
    for g, summed in zip(gradients, sums, strict=True):
        g.copy_(summed.view_as(g) / world_size())
    return report


def from_first(function, *arguments):
    """Calls the function on process 0; returns its result, or raises the UserError that it raised, on every process."""
    if world_size() == 1:
        return function(*arguments)
    outcome = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function(*arguments)
        except UserError as error:
            outcome[1] = str(error)
    with waiting_for_others():
        dist.broadcast_object_list(outcome, 0)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    return outcome[0]


def shared_out(function, num: int) -> dict | None:
    """Computes rows for range(num) in batches that are dealt out to the processes; returns {name: rows [num,...]} on
    process 0, None on the others.

    function: range of at most BATCH numbers -> {name: rows, a tensor on the CPU}. The batches are the same for any
    number of processes, and so the rows are the same to the bit.
    """
    batches = [range(i, min(i + BATCH, num)) for i in range(0, num, BATCH)]
    mine = [function(numbers) for numbers in batches[rank() :: world_size()]]
    dealt = [mine]
    if world_size() > 1:
        dealt = [None] * world_size() if rank() == 0 else None
        with waiting_for_others():
            dist.gather_object(mine, dealt)
    if rank() > 0:
        return None
    in_order = [dealt[k % world_size()][k // world_size()] for k in range(len(batches))]
    return {name: torch.cat([rows[name] for rows in in_order]) for name in in_order[0]}


def barrier():
    if world_size() > 1:
        dist.barrier()


# --- SIGTERM and SIGINT: the step is finished, a checkpoint written, and the program leaves with 143 or 130 ---

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """The signals that this process has received, and the one that all processes stop for."""

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
        """Called by all processes together: they all stop for a signal that any of them has received."""
        for number, count in zip(SIGNALS, total(torch.tensor(self.received)).tolist(), strict=True):
            if count and self.signal is None:
                self.signal = number

    def leave(self):
        """Ends this process, once all have come here; called after the checkpoint."""
        barrier()  # torchrun ends the others, process 0 at its writing, as soon as one has left
        sys.exit(128 + self.signal)


@contextlib.contextmanager
def stop_requests():
    """Keeps SIGNALS from ending the process: they are noted in the StopRequest that it yields."""
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


# --- Processes of one run watch one another: when one dies or hangs, the others end and say which it was ---
#
# Every second a thread of each process writes to the store that they share how far its main thread has come, and reads
# what the others wrote. No process may be silent for SILENCE seconds, nor take more than PATIENCE seconds for a step
# (or four times its longest so far). What lies between steps (evaluation, pictures, checkpoints) may take any time.

SILENCE, PATIENCE, FIRST_STEPS = 15, 40, 3  # the first steps may take ten minutes: kernels are chosen and compiled
waiting = threading.Event()  # set while this process's main thread waits for the others
steps = {"begun": 0, "since": None, "longest": 0.0}  # of this process's main thread


@contextlib.contextmanager
def watched_step():
    """Times the step inside, for the other processes to see."""
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
    """Marks what may block inside only because another process is late, so that nobody takes this one for hung."""
    waiting.set()
    try:
        yield
    finally:
        waiting.clear()


def verdict(report: dict, silent: int, at_least: int = 0) -> str | None:
    """Says what is wrong with a process that last reported this, `silent` seconds ago; None if nothing is.

    at_least: seconds that any step may take, where that is more than PATIENCE.
    """
    if report["left"]:
        return None if report["left"] == "done" else f"ended: {report['left']}"
    if silent > SILENCE:
        return f"has not been heard of for {silent} s: dead, stopped or cut off"
    patience = max(PATIENCE, at_least, 4 * report["longest"] if report["begun"] > FIRST_STEPS else 600)
    if report["in_step"] > patience and not report["waiting"]:
        return f"has been in one step for {report['in_step']:.0f} s: it hangs"
    return None


class Watch(threading.Thread):
    """Publishes every second how far this process is, and ends it when another one is dead or hangs."""

    def __init__(self, rank: int, world_size: int, store, at_least: int):
        super().__init__(daemon=True)
        self.at_least = at_least
        self.rank, self.peers, self.store = rank, [r for r in range(world_size) if r != rank], store
        self.left, self.beats = "", 0
        self.heard = dict.fromkeys(self.peers, (None, 0))  # last report, rounds without a newer one
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
                    end_process(f"{keeper()} has ended")
                return
            self.unanswered = 0
            self.over.wait(1)

    def stop(self):
        """Ends both threads: one that is still calling the store when the interpreter exits would abort the process."""
        self.over.set()
        self.join()
        self.store_watch.join()

    def look_at_store(self):
        """Counts for how long the store is silent: with its keeper cut off, a call neither returns nor raises."""
        while self.is_alive():
            self.join(1)
            self.unanswered += 1
            if self.unanswered > 2 * SILENCE:
                end_process(f"{keeper()} has not answered for {self.unanswered} s: stopped or cut off")

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
            complaint = verdict(report, silent, self.at_least)
        if complaint and not self.left:
            end_process(f"process {peer}{' (' + report['where'] + ')' if report else ''} {complaint}")


def keeper() -> str:
    """Names, in words, who keeps the store: torchrun, if it started the processes, else process 0."""
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    launched = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return f"{'the torchrun of process 0' if launched else 'process 0'}, which keeps the store of all at {where},"


def end_process(message):
    print(f"\nerror: {message}; this process ends too", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread may be stuck in a collective, where no exception reaches it


@contextlib.contextmanager
def together(at_least: int = 0):
    """Has the processes watch one another; at_least: see `verdict`. With one process nothing happens."""
    if not dist.is_initialized():
        yield
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    watch = Watch(dist.get_rank(), dist.get_world_size(), dist.PrefixStore("watch", store), at_least)
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
        with contextlib.suppress(RuntimeError):  # the store may be gone already
            watch.publish()
        raise
    watch.stop()
