"""Training runs in processes of their own, which can be killed at a chosen point; and what a run left behind."""

import multiprocessing
import os
import sys
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from SBGAN import train_finetune_end2end, train_progressive_seg, train_segmenter
from SPADE import train as train_spade
from SPADE.engine import checkpoint

LAYOUT = ["--max_dim", "8", "--epochs", "1", "--batch_size", "8", "--fmap_max", "8", "--latent_dim", "8"]
LAYOUT += ["--num_eval", "8"]
SPADE = ["--batch_size", "8", "--niter", "1", "--niter_decay", "1", "--ngf", "2", "--ndf", "2", "--hidden", "4"]
SPADE += ["--no_vgg_loss", "--num_eval", "8", "--no_fid"]
JOINED = ["--batch_size", "8", "--niter", "1", "--niter_decay", "1", "--no_vgg_loss", "--num_eval", "8", "--no_fid"]
JOINED += ["--layout_name", "layout", "--spade_name", "spade"]
SEGMENTER = ["--batch_size", "4", "--steps", "4"]
FLAGS = {"layout": LAYOUT, "spade": SPADE, "finetune": JOINED, "segmenter": SEGMENTER}
MAIN = {
    "layout": train_progressive_seg.main,
    "spade": train_spade.main,
    "finetune": train_finetune_end2end.main,
    "segmenter": train_segmenter.main,
}
STAGE = {"layout": "layout_gan", "spade": "spade", "finetune": "finetune", "segmenter": "segmenter"}
STEPS = {"layout": 6, "spade": 4, "finetune": 6}  # 16 images in batches of 8: 3 phases; 2 epochs; D2's and 2 epochs

processes = multiprocessing.get_context("fork")  # torch is there already: a run takes a second, not ten


def arguments(stage, store, folder: Path, *more):
    places = ["--store", str(store), "--weights", str(folder / "weights"), "--logs", str(folder / "logs")]
    return [*places, "--name", stage, "--device", "cpu", "--log_every", "1", *FLAGS[stage], *map(str, more)]


def train(stage, store, folder, *more, before=None, kill_after=120.0) -> tuple[int, str]:
    """Exit status (negative: the signal that killed it) and output of a run.

    before: called first in its process; kill_after: seconds until it is killed, wherever it is then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    target = (MAIN[stage], arguments(stage, store, folder, *more), output, before)
    process = processes.Process(target=_child, args=target)
    process.start()
    process.join(kill_after)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode, output.read_text()


def _child(main, flags, output, before):
    torch.set_num_threads(1)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    if before:
        before()
    main(flags)


class SignalAt:
    """Sends itself a signal when its n-th update of an optimiser is about to be made."""

    def __init__(self, signal, update: int):
        self.signal, self.update = signal, update

    def __call__(self):
        made, step = 0, torch.optim.Adam.step

        def counted(optimizer, *arguments, **more):
            nonlocal made
            made += optimizer.found_inf.item() == 0  # those of the rehearsal are none
            if made == self.update and not optimizer.found_inf:
                os.kill(os.getpid(), self.signal)
            return step(optimizer, *arguments, **more)

        torch.optim.Adam.step = counted


class KillWhileSaving:
    """Dies of SIGKILL within the n-th checkpoint, at its trailer: all of the content is in the temporary file."""

    def __init__(self, number: int):
        self.number = number

    def __call__(self):
        made, pack = 0, checkpoint.HEAD.pack

        class Head:
            size, unpack = checkpoint.HEAD.size, staticmethod(checkpoint.HEAD.unpack)

            @staticmethod
            def pack(*fields):
                nonlocal made
                made += 1
                if made == self.number:
                    os.kill(os.getpid(), 9)
                return pack(*fields)

        checkpoint.HEAD = Head


def final(stage, folder: Path) -> dict:
    """Name -> tensor or number, of all that the last checkpoint holds but settings and paths."""
    content = checkpoint.load(checkpoint.newest(folder / "weights" / stage, stage), STAGE[stage])
    return dict(flat({key: content[key] for key in content if key not in ("config", "origin")}))


def flat(value, name=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from flat(inner, f"{name}.{i}")
    else:
        yield name, value


def differences(one: dict, other: dict) -> list[str]:
    """Names of what is not equal to the bit."""
    assert one.keys() == other.keys()
    return [
        name
        for name, value in one.items()
        if not (torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name])
    ]


def events_of(stage, folder: Path) -> EventAccumulator:
    """The run's log as TensorBoard reads it."""
    (run,) = (folder / "logs" / stage).iterdir()
    return EventAccumulator(str(run)).Reload()


def curves(stage, folder: Path) -> dict:
    """Tag -> [(images seen, value)] as TensorBoard shows it, but the speed."""
    events = events_of(stage, folder)
    tags = [tag for tag in events.Tags()["scalars"] if tag != "images_per_second"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
