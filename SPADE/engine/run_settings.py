"""The flags that every training has, and which of all flags may differ when a run is continued."""

import dataclasses
from dataclasses import dataclass

from datasets.errors import UserError
from SPADE.engine.config import harmless, require, setting
from SPADE.engine.device import PRECISIONS
from SPADE.engine.distributed import launched_processes


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    store: str = harmless(help="packed data set (python -m datasets.prepare)")
    name: str = harmless(help="checkpoints go to WEIGHTS/NAME, logs to LOGS/NAME")
    weights: str = harmless("weights", "folder of all checkpoints")
    logs: str = harmless("logs", "folder of all TensorBoard logs")
    device: str | None = harmless(None, "cpu, cuda or cuda:N; default cuda if there is one")
    seed: int = setting(0, "of weights, noise and order of data", at_least=0, at_most=2**63 - 1)

    precision: str = setting("fp32", "of products: float32, TF32 (GPUs), bfloat16 by autocast", choices=PRECISIONS)
    micro_batch: int = harmless(
        0, "images that one process handles at a time, to fit its memory; 0: its whole share", at_least=0
    )
    deterministic: bool = harmless(False, "the same bits on a GPU too, slower; PyTorch warns where it cannot")
    ema: bool = setting(True, "moving average of the generators' weights, which is scored and sampled (--no_ema)")
    ema_images: int = setting(10_000, "its half-life in images, but at most a 20th of those seen", at_least=0)

    resume_every: int = harmless(
        1000, "steps between checkpoints to continue from (the newest two stay); 0: none", at_least=0
    )
    keep: int = harmless(0, "newest checkpoints to keep beside those that other runs start from; 0: all", at_least=0)
    on_save_error: str = harmless("stop", "when a checkpoint cannot be written", choices=("stop", "continue"))


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The flag of the trainings that can begin from a trained model."""

    start_from: str | None = setting(
        None, "checkpoint of this stage, of other data or sizes: what fits is where this run begins", also=("--from",)
    )


def check_batch(batch: int, config: RunSettings, num_images: int):
    """A batch over all processes, of which torchrun's environment says how many there are. Raises UserError."""
    processes = launched_processes()
    wanted = f"at most {num_images}, the training images of {config.store}"
    require(batch <= num_images, "batch_size", batch, wanted, "take a smaller batch")
    wanted = f"a multiple of {processes}, the number of processes that share it"
    require(batch % processes == 0, "batch_size", batch, wanted, "take another batch, or fewer processes")


def reconcile(saved: dict, config, images_seen: int, constant_images=None) -> list[str]:
    """May a run whose checkpoint has the settings `saved` go on with those of `config`? Returns notes of what differs.

    What changes networks, data, losses or rates would give weights that no single command gives, and is refused by
    name. `niter` and `niter_decay` may change while both the old and the new schedule are still at the full learning
    rate: the course so far is then that of a run with the new ones. constant_images: settings -> images until the rate
    begins to fall, or None where no schedule can be changed.
    """
    notes = []
    for field in dataclasses.fields(config):
        old, new = saved.get(field.name, field.default), getattr(config, field.name)
        if old == new:
            continue
        if field.metadata["harmless"] or (
            field.name in ("niter", "niter_decay")
            and constant_images
            and images_seen <= min(constant_images(config), constant_images(type(config)(**saved)))
        ):
            notes.append(f"--{field.name} {new} instead of {old}")
            continue
        raise UserError(
            f"--{field.name} is {new}, but the run {config.name} was begun with {old}, which its networks, data or "
            f"course depend on; pass {old} to continue it, or another --name to begin a new one"
        )
    return notes
