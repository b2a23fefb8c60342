"""TensorBoard and the progress bar. Logging that fails is said once and never ends a run."""

import time
from datetime import datetime
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter  # its flush waits for what is queued; tensorboardX's does not
from tqdm import tqdm

from SPADE.engine.distributed import rank


class RunLog:
    """Scalars and pictures of one run under logs/<name>/<date-time>; x axis: images seen. On process 0.

    One name is one curve: a run writes on in its newest folder, where what an earlier process wrote beyond `start`
    images is purged. For a second curve give a second name.
    """

    def __init__(self, folder: Path, start: int = 0):
        self.writer = None
        self.complained = False
        if rank() == 0:
            self.attempt(self.open, Path(folder), start)

    def open(self, folder, start):
        runs = sorted(path for path in folder.glob("*") if path.is_dir())
        if runs:
            self.folder, purge_step = runs[-1], start + 1
        else:
            self.folder, purge_step = folder / datetime.now().strftime("%Y%m%d-%H%M%S"), None
        # A suffix, because two files of one second would have one name.
        self.writer = SummaryWriter(str(self.folder), purge_step=purge_step, filename_suffix=f".{start:012d}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        if self.writer:
            self.attempt(self.writer.close)

    def flush(self):
        """Before a checkpoint, so that the log has everything up to there."""
        if self.writer:
            self.attempt(self.writer.flush)

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

    def text(self, name: str, text: str):
        if self.writer:
            self.attempt(self.writer.add_text, name, text)


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
