"""TensorBoard and the progress bar. Logging that fails is said once and never ends a run."""

import json
import re
import time
from datetime import datetime
from pathlib import Path

import torch
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from datasets.files import replacing
from SPADE.engine.distributed import rank


class EventFile:
    """An event file of tensorboardX that holds everything as soon as it has been added.

    tensorboardX's SummaryWriter writes from a queue in a thread of its own: what is queued is lost when the process is
    killed, and when the disk is full the thread dies and the training waits for it for ever.
    """

    def __init__(self, folder: Path, suffix: str, purge_from: int | None = None):
        """purge_from: the step from which on earlier files of the folder are not shown."""
        folder.mkdir(parents=True, exist_ok=True)
        self.file = EventsWriter(str(folder / "events"), suffix)
        if purge_from is not None:
            self.add(Event(step=purge_from, session_log=SessionLog(status=SessionLog.START)))

    def add(self, event: Event):
        event.wall_time = time.time()
        self.file.write_event(event)
        self.file.flush()

    def add_scalar(self, name: str, value: float, images_seen: int):
        self.add(Event(step=images_seen, summary=summary.scalar(name, value)))

    def add_image(self, name: str, picture, images_seen: int):
        """picture: uint8 [3,H,W], NumPy."""
        self.add(Event(step=images_seen, summary=summary.image(name, picture)))

    def close(self):
        self.file.close()


def own_log(record: Path, logs: Path, continued: bool) -> Path:
    """The run's own folder in LOGS/NAME, made when the run begins and written down in `record`.

    continued: has the run a checkpoint? One that kept no record logged into the newest folder with a time for its name.
    """
    if name := recorded(record):
        return logs / name
    older = [path.name for path in logs.glob("*") if re.fullmatch(r"\d{8}-\d{6}", path.name)] if continued else []
    name = max(older) if older else new_folder(logs)
    with replacing(record) as temporary:
        temporary.write_text(json.dumps({"folder": name}) + "\n")
    return logs / name


def recorded(record: Path) -> str | None:
    """The folder's name in a record; None where there is none, or a damaged one."""
    try:
        return str(json.loads(record.read_text())["folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def recorded_logs(run: Path, logs: Path) -> list[Path]:
    """The logs in LOGS/NAME that a run's folder says are its own; all that is there where it says nothing."""
    names = [name for record in sorted(run.glob("*_log.json")) if (name := recorded(record))]
    return [logs / name for name in names] or [logs, *sorted(path for path in logs.glob("*") if path.is_dir())]


def new_folder(logs: Path) -> str:
    """Makes a folder with the time for its name."""
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    for name in (now, *(f"{now}-{number}" for number in range(2, 1000))):
        try:
            (logs / name).mkdir(parents=True)
            break
        except FileExistsError:  # of a run with other weights
            continue
        except OSError:  # what can't be logged is said when it is tried
            break
    return name


class RunLog:
    """Scalars and pictures of one run in a folder of its own; x axis: images seen. On process 0.

    One run is one curve: what an earlier process of the run wrote beyond `start` images is purged.
    """

    def __init__(self, folder: Path, start: int = 0):
        self.writer = None
        self.complained = False
        if rank() == 0:
            self.attempt(self.open, Path(folder), start)

    def open(self, folder, start):
        continued = any(folder.glob("events*"))
        # A suffix, because two files of one second would have one name.
        self.writer = EventFile(folder, f".{start:012d}", purge_from=start + 1 if continued else None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        if self.writer:
            self.attempt(self.writer.close)

    def attempt(self, action, *arguments):
        try:
            action(*arguments)
        except Exception as error:  # a full disk, a removed folder: the training is worth more than its log
            if not self.complained:
                print(f"warning: logging failed ({type(error).__name__}: {error}); training goes on", flush=True)
            self.complained = True

    def scalars(self, values: dict, images_seen: int):
        for name, value in values.items() if self.writer else ():
            self.attempt(self.writer.add_scalar, name, value, images_seen)

    def picture(self, name: str, picture: torch.Tensor, images_seen: int):
        """picture: uint8 [3,H,W]."""
        if self.writer:
            self.attempt(self.writer.add_image, name, picture.cpu().numpy(), images_seen)


class Progress:
    """tqdm over images seen on process 0, with the losses and what the stage wants to say beside it.

    Losses stay on their device until `show`: reading one waits for the device.
    """

    def __init__(self, stage: str, total: int, start: int = 0):
        self.bar = tqdm(
            total=total, initial=start, desc=stage, unit="img", dynamic_ncols=True, smoothing=0.05, disable=rank() > 0
        )
        self.seen, self.since, self.at = start, time.perf_counter(), start

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def step(self, images: int):
        """Counts a step on so many images."""
        self.seen += images
        self.bar.update(images)

    def show(self, description: str, losses: dict) -> dict:
        """Reads the losses, shows them, returns them as floats with images per second since the last call."""
        values = {name: float(value) for name, value in losses.items()}
        self.bar.set_description(description, refresh=False)
        self.bar.set_postfix({name.split("/")[-1]: f"{value:.3g}" for name, value in values.items()})
        now = time.perf_counter()
        rate = (self.seen - self.at) / max(now - self.since, 1e-9)
        self.since, self.at = now, self.seen
        return {**values, "images_per_second": rate}
