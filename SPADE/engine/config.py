"""Settings: one frozen dataclass per program, its command line made from its fields, saved as JSON."""

import dataclasses
import json
from pathlib import Path
from typing import get_args, get_type_hints

from datasets.disk import replacing
from datasets.errors import UserError
from datasets.flags import Parser, Range, Switch


def setting(default=dataclasses.MISSING, help="", choices=None, harmless=False, also=(), **limits):
    """A field of a settings dataclass; without a default the flag is required.

    also: other names of the flag; limits: of a number, the arguments of `Range`.
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
