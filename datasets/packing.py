"""Makes a packed store of a plan (which pairs, how to load one), in parallel over cores.

It is written into a directory beside the target, which is renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing.connection
import os
import shutil
import signal
import threading
import zlib
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
from datasets.packed import FORMAT, INDEX, VERSION, index_checksum

LOCK = "lock"


@dataclass(frozen=True)
class Entry:
    """One image/label pair of a store that is to be written."""

    name: str
    height: int
    width: int
    weight: int = 1


@dataclass(frozen=True)
class Slot:
    """The place of one pair in the files. Any process may fill it; nothing but its number of the pair decides where."""

    images_file: Path
    labels_file: Path
    pixels_before: int
    height: int
    width: int

    def write(self, image: np.ndarray, labels: np.ndarray) -> int:
        """image uint8 [h,w,3], train ids uint8 [h,w] -> CRC-32 of the bytes written"""
        expected = (self.height, self.width)
        if image.shape != (*expected, 3) or labels.shape != expected or image.dtype != np.uint8 != labels.dtype:
            raise ValueError(f"image {image.shape} and labels {labels.shape} for a slot of {expected}")
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()  # [3,h,w], as networks take it
        ids = np.ascontiguousarray(labels).tobytes()
        _write_at(self.images_file, 3 * self.pixels_before, planes)
        _write_at(self.labels_file, self.pixels_before, ids)
        return zlib.crc32(ids, zlib.crc32(planes))


class StoreWriter:
    """`with StoreWriter(...) as writer: writer.write(split, i, image, labels)` for each pair, in any order.

    Leaving the block without an error makes the store appear under its name; any error leaves nothing.
    Space is reserved on entering, so that a full disk shows before hours of work.
    """

    def __init__(
        self,
        target: str | Path,
        name: str,
        label_space: LabelSpace,
        height: int,
        width: int,
        reference: str,
        splits: dict[str, list[Entry]],
    ):
        check_size(height, width)
        if reference not in splits:
            raise ValueError(f"reference split {reference} is none of {list(splits)}")
        self.target = Path(target)
        self.partial = self.target.parent / f".{self.target.name}.partial"
        self.slots: dict[str, list[Slot]] = {}
        self.crc32: dict[str, list[int | None]] = {}
        self._index = {
            "format": FORMAT, "version": VERSION, "name": name, "height": height, "width": width,
            "reference": reference, "label_space": label_space.to_dict(), "label_space_hash": label_space.hash,
        }  # fmt: skip
        self._splits = splits

    def __enter__(self) -> StoreWriter:
        with self._reporting_disk():
            self._claim()
            try:
                self._reserve()
            except BaseException:
                self._discard()
                raise
        return self

    def write(self, split: str, i: int, image: np.ndarray, labels: np.ndarray) -> None:
        """image uint8 [h,w,3], train ids uint8 [h,w]"""
        self.crc32[split][i] = self.slots[split][i].write(image, labels)

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            with self._reporting_disk():
                if error is None:
                    self._finish()
                elif isinstance(error, OSError):
                    raise error
        finally:
            self._discard()

    @contextlib.contextmanager
    def _reporting_disk(self):
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{error.filename or self.target}: cannot write the store ({error.strerror}); "
                "mend permissions, free space, or choose another --out"
            ) from None

    def _claim(self) -> None:
        """The partial directory is ours alone; what a killed process left there goes."""
        if self.target.is_symlink() or self.target.is_file() or (self.target.is_dir() and any(self.target.iterdir())):
            raise UserError(f"{self.target}: exists already; delete it or choose another --out")
        if not self.target.name or self.target.is_mount():
            raise UserError(
                f"--out {self.target}: the current directory or a mounted disk, which no finished store can be renamed "
                "to; give a new name below it"
            )
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.partial / LOCK, "w")  # noqa: SIM115 (held until the store is whole)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(
                f"{self.target}: another process is preparing it now; wait for it or choose another --out"
            ) from None
        for leftover in self.partial.iterdir():
            if leftover.name != LOCK:
                leftover.unlink()

    def _reserve(self) -> None:
        pixels = {split: sum(e.height * e.width for e in entries) for split, entries in self._splits.items()}
        needed, free = 4 * sum(pixels.values()), shutil.disk_usage(self.partial).free
        if needed > free:
            raise UserError(
                f"{self.target}: needs {needed / 1e6:.1f} MB and the disk has {free / 1e6:.1f} MB free; "
                "free some space, choose another --out, or a smaller --height"
            )
        reserve = getattr(os, "posix_fallocate", lambda file, _, size: os.ftruncate(file, size))  # not on macOS
        for split, entries in self._splits.items():
            files = {kind: self.partial / f"{split}.{kind}.u8" for kind in ("images", "labels")}
            for kind, bytes_per_pixel in (("images", 3), ("labels", 1)):
                with open(files[kind], "wb") as file:
                    reserve(file.fileno(), 0, bytes_per_pixel * pixels[split])
            before, self.slots[split] = 0, []
            for entry in entries:
                self.slots[split].append(Slot(files["images"], files["labels"], before, entry.height, entry.width))
                before += entry.height * entry.width
            self.crc32[split] = [None] * len(entries)

    def _finish(self) -> None:
        self._index["splits"] = {split: self._split_index(split, entries) for split, entries in self._splits.items()}
        self._index["checksum"] = index_checksum(self._index)
        with open(self.partial / INDEX, "w", encoding="utf-8") as file:
            json.dump(self._index, file, indent=1)
        for path in self.partial.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        (self.partial / LOCK).unlink()
        os.replace(self.partial, self.target)

    def _split_index(self, split: str, entries: list[Entry]) -> dict:
        if None in self.crc32[split]:
            raise ValueError(f"pair {self.crc32[split].index(None)} of split {split} was never written")
        index = {"names": [e.name for e in entries], "crc32": self.crc32[split]}
        if any((e.height, e.width) != (self._index["height"], self._index["width"]) for e in entries):
            index["sizes"] = [[e.height, e.width] for e in entries]
        if any(e.weight != 1 for e in entries):
            index["weights"] = [e.weight for e in entries]
        for kind in ("images", "labels"):
            file = self.partial / f"{split}.{kind}.u8"
            index[kind] = {"file": file.name, "bytes": file.stat().st_size}
        return index

    def _discard(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        self._lock.close()


def check_size(height: int, width: int) -> None:
    """Layouts grow from 4 rows by doubling, and networks exist for aspects 1 and 2."""
    if height < 4 or height & (height - 1):
        raise UserError(f"--height {height}: not a power of two from 4 on; use 64, 128, 256, ...")
    if width not in (height, 2 * height):
        raise UserError(f"--width {width}: not aspect x height; with --height {height} use {height} or {2 * height}")


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        written = 0
        while written < len(data):
            written += file.write(data[written:])


# --- A plan, and its packing over cores ---


@dataclass(frozen=True)
class Item:
    """A pair that is to be packed: where it goes, and what `Plan.load` needs to make it (a path, a seed...)."""

    entry: Entry
    source: Any


@dataclass(frozen=True)
class Plan:
    """The pairs that a source wants packed. Sources make it after checking all that shows without decoding pictures."""

    name: str
    label_space: LabelSpace
    height: int
    width: int
    reference: str
    splits: dict[str, list[Item]]
    load: Callable[[Item], tuple[np.ndarray, np.ndarray]]  # -> image uint8 [h,w,3], train ids uint8 [h,w]; picklable


@dataclass(frozen=True)
class Source:
    """A data set that can be prepared: where its files lie and what they mean."""

    description: str  # its first line is its summary
    add_arguments: Callable  # parser -> None; sets height and aspect (width / height) by default
    plan: Callable  # arguments -> Plan


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
