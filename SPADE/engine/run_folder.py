"""The folders of one run: what it continues from, what it writes, what it may delete, where it logs.

WEIGHTS/NAME/run.lock            held while the run is going on
WEIGHTS/NAME/config.json         the settings
WEIGHTS/NAME/PREFIX_log.json     which folder of LOGS/NAME is its log
WEIGHTS/NAME/origin.json         checkpoints of other runs that this one started from; these are never deleted
WEIGHTS/NAME/PREFIX_NUMBER.pt    as scheduled, NUMBER of epochs or iterations: for later stages, tests, people
WEIGHTS/NAME/PREFIX_at_IMAGES.pt in between, after so many images seen: only to continue from
"""

import contextlib
import fcntl
import json
import os
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.errors import UserError
from datasets.files import explained, replacing
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import RunSettings, reconcile, require
from SPADE.engine.distributed import from_first, rank
from SPADE.engine.log import own_log
from SPADE.engine.state import Source, TrainingState, class_names, read_source, take

INTERIM_KEPT = 2  # the newest, and the one before in case that is damaged


@dataclass(frozen=True)
class Saved:
    path: Path
    content: dict


def lock(folder: Path):
    """Locks the folder; returns the open file that holds the lock, which the system releases when the process ends."""
    file = open(folder / "run.lock", "a+")  # noqa: SIM115 (closed with the run)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        raise UserError(
            f"{folder} belongs to a run that is going on ({holder}); wait for it, stop it, or pass another --name"
        ) from None
    except OSError as error:
        print(f"warning: {folder} cannot be locked ({error.strerror}): begin no second run there", flush=True)
    file.truncate(0)
    print(f"process {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
    return file


class RunFolder:
    """Reads and writes a run's folder, on process 0 alone. Opening it reads the newest whole checkpoint, if any.

    From then on no other process can work on the run, until the `with` block ends, or at the latest the process.
    """

    def __init__(self, config: RunSettings, prefix: str, stage: str):
        single = config.name == Path(config.name).name and config.name not in ("", "..")
        require(single, "name", repr(config.name), "the name of one folder, without a slash", "pass such a name")
        self.path, self.logs = Path(config.weights) / config.name, Path(config.logs) / config.name
        self.prefix, self.stage = prefix, stage
        self.damaged: set[Path] = set()
        self.locks = []
        self.saved: Saved | None = from_first(self._open)
        self.last_good = self.saved.path if self.saved else None  # newest checkpoint known to be whole
        self.source: Source | None = None  # what a run without a checkpoint of its own begins from

    def begin(self, config: RunSettings, data: dict, constant_images=None, origin=(), start_from: str | None = None):
        """Refuses settings or data other than the saved run's, says from where it goes on, writes the settings down.

        constant_images: see `reconcile`; origin: checkpoints of other runs that this one starts from; start_from: one
        of this stage whose weights it begins with, which a run that goes on neither needs nor reads.
        """
        if self.saved:
            begun_from = self.saved.content["config"].get("start_from")
            if start_from is None and begun_from is not None:
                config = replace(config, start_from=begun_from)
            self._check_data(data, config)
            notes = reconcile(self.saved.content["config"], config, self.saved.content["images_seen"], constant_images)
            if rank() == 0:
                where = f"continuing from {self.saved.path}, {self.saved.content['images_seen']} images seen"
                print("; ".join([where, *notes]), flush=True)
        elif start_from is not None:
            self.source = from_first(read_source, start_from, self.stage)
        origin = [*origin, *([start_from] if start_from is not None else [])]
        self.config, self.data = config, data
        self.log = from_first(self._begin, origin)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        while self.locks:
            self.locks.pop().close()

    def start_warm(self, state: TrainingState, class_axes: dict[str, int]):
        """Copies what fits of the model that the run begins from, if there is one. class_axes: see `state.take`."""
        if self.source:
            report = take(state, self.source, class_names(self.data), class_axes)
            self.source = None  # its memory
            if rank() == 0:
                print(*report, sep="\n  ", flush=True)

    def restore(self, state: TrainingState):
        """Puts what was saved, if anything was, into the state."""
        if self.saved:
            state.restore(self.saved.content)
            self.saved = None  # its memory

    def save(self, state: TrainingState, number: int | None, **more):
        """Writes PREFIX_NUMBER.pt, or an interim checkpoint. Then deletes what --keep does not want, this one never."""
        if rank() > 0:
            return
        content = {**state.record(self.config, self.data), **more}
        name = f"{self.prefix}_at_{content['images_seen']}.pt" if number is None else f"{self.prefix}_{number}.pt"
        stop = self.config.on_save_error == "stop"
        remedy = f"the last good one is {self.last_good}" if self.last_good else "there is no earlier one"
        remedy += "; make room and give the same command again" if stop else "; training goes on"
        try:
            with explained(f"checkpoint {self.path / name}", remedy):
                checkpoint.save(self.path / name, self.stage, content)
        except UserError as error:
            if stop:
                raise
            print(f"warning: {error}", flush=True)
            return
        self.last_good = self.path / name
        self.damaged.discard(self.last_good)
        self._prune()

    def _open(self) -> Saved | None:
        if self.path.is_dir():
            self.locks.append(lock(self.path))
        return self._newest()

    def _begin(self, origin) -> Path:
        """Writes down what belongs to the run; returns the folder of its log."""
        with explained(self.path, "make room or pass other --weights"):
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.locks:
                self.locks.append(lock(self.path))
            settings.save(self.config, self.path / "config.json")
            if origin:
                names = [os.path.relpath(path, self.path.parent) for path in origin]
                with replacing(self.path / "origin.json") as temporary:
                    temporary.write_text(json.dumps(names) + "\n")
            log = own_log(self.path / f"{self.prefix}_log.json", self.logs, continued=self.saved is not None)
        with contextlib.suppress(OSError):  # a log that can't be written is said when it is tried
            self.locks.append(lock(log))  # it is another run's too, where somebody copied its weights
        return log

    def _newest(self) -> Saved | None:
        found = self._files()
        torn_first = sorted(found, key=lambda path: (found[path] is None, found[path]), reverse=True)
        for path in torn_first:  # so that each is named
            try:
                content = checkpoint.load(path, self.stage)
            except UserError as error:
                print(f"not used: {error}", flush=True)
                self.damaged.add(path)
                continue
            if "optimizers" not in content:
                raise UserError(f"{path} has no optimisers: it cannot be continued; take another --name")
            return Saved(path, content)
        if found:
            raise UserError(
                f"no checkpoint in {self.path} is whole; bring back a copy, or delete them to train from the start"
            )
        return None

    def _files(self) -> dict:
        """path -> images seen (None where the end of the file is missing)"""
        found = {}
        for path in self.path.glob(f"{self.prefix}_*.pt"):
            if re.fullmatch(rf"{re.escape(self.prefix)}_(?:at_)?\d+\.pt", path.name):
                try:
                    found[path] = checkpoint.position(path)
                except checkpoint.Damaged:
                    found[path] = None
        return found

    def _check_data(self, data: dict, config):
        before = self.saved.content["data"]
        for key, value in data.items():
            if before.get(key) != value:
                values = f" ({value} for {before.get(key)})" if isinstance(value, (int, str)) else ""
                raise UserError(
                    f"--store {config.store} differs in its {key} from what {self.saved.path} was trained on{values}; "
                    "pass the same data, or another --name to begin a new run"
                )

    def _prune(self):
        images = {path: seen for path, seen in self._files().items() if seen is not None and path not in self.damaged}
        whole = sorted(images, key=images.get, reverse=True)
        scheduled = [path for path in whole if "_at_" not in path.name[len(self.prefix) :]]
        wanted = {self.last_good, *whole[:INTERIM_KEPT], *scheduled[: self.config.keep or None]}
        wanted = {path.resolve() for path in (*wanted, *self._origins())}
        for path in whole:
            if path.resolve() not in wanted:
                path.unlink(missing_ok=True)

    def _origins(self) -> list[Path]:
        """Checkpoints that runs beside this one name as what they started from."""
        paths = []
        for file in self.path.parent.glob("*/origin.json"):
            try:
                paths += [self.path.parent / name for name in json.loads(file.read_text())]
            except (OSError, ValueError):
                print(f"warning: {file} cannot be read; what it names may be deleted by --keep", flush=True)
        return paths
