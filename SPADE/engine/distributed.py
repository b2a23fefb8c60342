"""Several processes, started by torchrun. With one process every function here returns at once.

No wrappers around networks: parameters are broadcast once, gradients are averaged as one flat buffer for each step.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from datasets.errors import UserError
from SPADE.engine.watch import waiting_for_others

BATCH = 16  # rows that are computed at once of what is shared out
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


def start(device: torch.device) -> torch.device:
    """A program begins: joins the group that torchrun's environment describes; returns this process's device."""
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


def broadcast(*networks):
    """Parameters and buffers of process 0 to all."""
    if world_size() > 1:
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.data, 0)


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, which is overwritten by its sum over the processes."""
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
    """The function's result on process 0, or the UserError that it raises there, on every process."""
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
    """What function gives for range(num), whose batches are dealt out to the processes: {name: rows [num,...]} on
    process 0, None on the others.

    function: range of at most BATCH numbers -> {name: rows, a tensor on the CPU}. It sees the same batches for any
    number of processes, so that the rows are the same to the bit.
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
