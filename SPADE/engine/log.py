"""TensorBoard and the progress bar. Logging that fails is said once and never ends a run."""

import time
from datetime import datetime
from pathlib import Path

import torch
from tensorboardX import SummaryWriter
from tqdm import tqdm


class RunLog:
    """Scalars and pictures of one run under logs/<name>/<date-time>; x axis: images seen."""

    def __init__(self, folder: Path | None):
        self.writer = None
        self.complained = False
        if folder is not None:
            self.attempt(self.open, Path(folder) / datetime.now().strftime("%Y%m%d-%H%M%S"))

    def open(self, folder):
        self.writer = SummaryWriter(str(folder))
        self.folder = folder

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

    def close(self):
        if self.writer:
            self.attempt(self.writer.close)


class Progress:
    """tqdm over images seen, with the losses and what the stage wants to say beside it.

    Losses stay on their device until `due()`: reading one waits for the device.
    """

    def __init__(self, stage: str, total: int, start: int = 0, every: int = 20):
        self.bar = tqdm(total=total, initial=start, desc=stage, unit="img", dynamic_ncols=True, smoothing=0.05)
        self.every, self.steps = every, 0
        self.since, self.at = time.perf_counter(), start

    def step(self, images: int):
        self.steps += 1
        self.bar.update(images)

    def due(self) -> bool:
        return self.steps % self.every == 0 or self.bar.n >= self.bar.total

    def show(self, description: str, losses: dict) -> dict:
        """Reads the losses, shows them, returns them as floats with images per second since the last call."""
        values = {name: float(value) for name, value in losses.items()}
        self.bar.set_description(description, refresh=False)
        self.bar.set_postfix({name.split("/")[-1]: f"{value:.3g}" for name, value in values.items()})
        now = time.perf_counter()
        rate = (self.bar.n - self.at) / max(now - self.since, 1e-9)
        self.since, self.at = now, self.bar.n
        return {**values, "images_per_second": rate}

    def close(self):
        self.bar.close()
