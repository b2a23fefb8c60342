"""Settings: one frozen dataclass per program, its command line made from its fields, saved as JSON; the
flags that every training has, and which of all flags may differ when a run is continued."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

from datasets.errors import Parser, Range, Switch, UserError
from datasets.files import replacing
from SPADE.engine.device import PRECISIONS
from SPADE.engine.distributed import launched_processes


def setting(default=dataclasses.MISSING, help="", choices=None, harmless=False, also=(), **limits):
    """A field of a settings dataclass; without a default its flag is required.

    harmless: may it change when a run is continued? also: other names of the flag; limits: arguments of `Range`, for a
    number.
    """
    metadata = {"help": help, "choices": choices, "harmless": harmless, "also": also, "range": Range(**limits)}
    return dataclasses.field(default=default, metadata=metadata)


def harmless(default=dataclasses.MISSING, help="", choices=None, **limits):
    """A setting that may change when a run is continued: it touches neither networks nor data nor their course."""
    return setting(default, help, choices, harmless=True, **limits)


def parse(cls, arguments=None, program=None, description=None):
    """Command line -> instance of the settings dataclass, whose numbers are all in their ranges.

    description: what --help begins with, the program's docstring.
    """
    config = cls(**vars(make_parser(cls, program, description).parse_args(arguments)))
    check_ranges(config)
    return config


def make_parser(cls, program=None, description=None) -> Parser:
    parser = Parser(f"python -m {program}", description)
    for field in dataclasses.fields(cls):
        add_flag(parser, field, get_type_hints(cls)[field.name])
    needed = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
    parser.usage = " ".join([parser.prog, *(f"--{name} {name.upper()}" for name in needed), "[more flags]"])
    return parser


def add_flag(parser, field, kind):
    flag, required = f"--{field.name}", field.default is dataclasses.MISSING
    default = None if required else field.default
    text = help_text(field, kind)
    if kind is bool:
        parser.add_argument(flag, f"--no_{field.name}", action=Switch, nargs=0, default=default, help=text)
        return
    optional = [k for k in get_args(kind) if k is not type(None)]  # int | None -> int
    parser.add_argument(
        flag,
        *field.metadata.get("also", ()),
        type=optional[0] if optional else kind,
        choices=field.metadata.get("choices"),
        default=default,
        required=required,
        help=text,
    )


def help_text(field, kind) -> str:
    """Says what a setting is, its range if it is a number, and its default if it has one."""
    notes = []
    if (kind in (int, float) or set(get_args(kind)) & {int, float}) and not field.metadata.get("choices"):
        limits = field.metadata.get("range", Range())
        notes += [str(limits)] if limits != Range() else []
    if field.default is dataclasses.MISSING:
        notes.append("required")
    elif field.default not in (None, ""):
        notes.append(f"default {field.default}" if kind is not bool else f"default {'on' if field.default else 'off'}")
    text = field.metadata.get("help", "")
    return (f"{text} ({'; '.join(notes)})" if notes else text).strip().replace("%", "%%")


def check_ranges(config):
    """Raises UserError for the first number that is out of its setting's range."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            wanted = field.metadata.get("range", Range())
            require(value in wanted, field.name, value, wanted, "pass such a number")


def to_dict(config) -> dict:
    return dataclasses.asdict(config)


def save(config, path: Path):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(to_dict(config), indent=1) + "\n")


def require(condition, flag, found, wanted, remedy):
    """Raises the one sentence a user needs unless the condition holds."""
    if not condition:
        raise UserError(f"--{flag} is {found}, but must be {wanted}; {remedy}")


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
    compile: bool = harmless(
        False, "torch.compile of the networks, but for gradient penalties and R1: longer until the first steps are made"
    )
    deterministic: bool = harmless(False, "the same bits on a GPU too, slower; PyTorch warns where it cannot")
    ema: bool = setting(True, "moving average of the generators' weights, which is scored and sampled (--no_ema)")
    ema_images: int = setting(10_000, "its half-life in images, but at most a 20th of those seen", at_least=0)

    log_every: int = harmless(20, "steps between lines of the log; 0: only the last", at_least=0)
    picture_every: int = harmless(
        500, "steps between pictures in the log, beside those of the first and the last step (stage 1 and baseline: of "
        "each phase's end); 0: none but these", at_least=0,
    )  # fmt: skip
    resume_every: int = harmless(
        1000, "steps between checkpoints to continue from (the newest two stay); 0: none", at_least=0
    )
    keep: int = harmless(0, "newest checkpoints to keep beside those that other runs start from; 0: all", at_least=0)
    on_save_error: str = harmless("stop", "when a checkpoint cannot be written", choices=("stop", "continue"))


@dataclass(frozen=True, kw_only=True)
class SeenByCritics:
    """Flags of the trainings that have critics."""

    augment: str = setting("", "changes at random what all critics see: some of color,translation,cutout")
    reuse_fakes: bool = setting(False, "critics see the samples of the generators' descent, not new ones: fewer passes")


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The flag of the trainings that can begin from a trained model."""

    start_from: str | None = setting(
        None, "checkpoint of this stage, of other data or sizes: what fits is where this run begins", also=("--from",)
    )


def check_batch(batch: int, config: RunSettings, num_images: int):
    """Refuses a batch that has more images than there are, or that the processes cannot share. Raises UserError."""
    processes = launched_processes()
    wanted = f"at most {num_images}, the training images of {config.store}"
    require(batch <= num_images, "batch_size", batch, wanted, "take a smaller batch")
    wanted = f"a multiple of {processes}, the number of processes that share it"
    require(batch % processes == 0, "batch_size", batch, wanted, "take another batch, or fewer processes")


def given(field, value) -> str:
    """A setting as it is written on the command line."""
    flag = (*field.metadata.get("also", ()), f"--{field.name}")[0]
    if isinstance(value, bool):
        return flag if value else f"--no_{field.name}"
    return f"no {flag}" if value is None else f"{flag} {value}"


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
            and images_seen - config.batch_size  # seen before the last step, when its rate was set
            < min(constant_images(config), constant_images(type(config)(**saved)))
        ):
            notes.append(f"--{field.name} {new} instead of {old}")
            continue
        flag, found = given(field, "").strip(), "not given" if new is None else new
        raise UserError(
            f"{flag} is {found}, but the run {config.name} was begun with {given(field, old)}, which its networks, "
            "data or course depend on; give that to continue it, or another --name to begin a new one"
        )
    return notes
