"""Makes a packed store of a plan (which pairs, how to load one), in parallel over cores."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.errors import UserError
from datasets.labels import LabelSpace
from datasets.writing import Entry, Slot, StoreWriter


@dataclass(frozen=True)
class Item:
    """A pair that is to be packed: where it goes, and what `Plan.load` needs to make it (a path, a seed...)."""

    entry: Entry
    source: Any


@dataclass(frozen=True)
class Plan:
    """What a source wants packed. Sources make it after checking all that shows without decoding pictures."""

    name: str
    label_space: LabelSpace
    height: int
    width: int
    reference: str
    splits: dict[str, list[Item]]
    load: Callable[[Item], tuple[np.ndarray, np.ndarray]]  # -> image uint8 [h,w,3], train ids uint8 [h,w]; picklable


def pack(plan: Plan, target: Path, workers: int) -> None:
    entries = {split: [item.entry for item in items] for split, items in plan.splits.items()}
    writer = StoreWriter(target, plan.name, plan.label_space, plan.height, plan.width, plan.reference, entries)
    with writer:
        places = [(split, i) for split, items in plan.splits.items() for i in range(len(items))]
        tasks = [(plan.load, plan.splits[split][i], writer.slots[split][i]) for split, i in places]
        results = in_parallel(_fill, tasks, workers, f"packing {plan.name}")
        for (split, i), crc32 in zip(places, results, strict=True):
            writer.crc32[split][i] = crc32


def _fill(task: tuple[Callable, Item, Slot]) -> int:
    load, item, slot = task
    return slot.write(*load(item))


def in_parallel(function: Callable, tasks: list, workers: int, title: str):
    """Yields function(task) in order, with a progress bar; the first error in that order ends it."""
    bar = tqdm(total=len(tasks), desc=title, unit="", leave=False, disable=None)
    with bar:
        if workers == 1 or len(tasks) < 2:
            for task in tasks:
                yield function(task)
                bar.update()
            return
        executor = ProcessPoolExecutor(min(workers, len(tasks)), initializer=_start_worker)
        try:
            for result in executor.map(function, tasks, chunksize=max(1, min(16, len(tasks) // (4 * workers)))):
                yield result
                bar.update()
        except BrokenProcessPool:
            raise UserError(f"--workers {workers}: a worker process died (out of memory?); use fewer workers") from None
        finally:
            executor.shutdown(cancel_futures=True)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _start_worker() -> None:
    """Ctrl-C is the parent's business, but when the parent is killed there is no one left to stop the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
