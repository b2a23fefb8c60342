"""Settings: one frozen dataclass per program, its command line made from its fields, saved as JSON."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import get_args, get_type_hints

from datasets.disk import replacing
from datasets.errors import UserError


def setting(default=dataclasses.MISSING, help="", choices=None, harmless=False, also=()):
    """A field of a settings dataclass; without a default the flag is required. also: other names of the flag."""
    metadata = {"help": help, "choices": choices, "harmless": harmless, "also": also}
    return dataclasses.field(default=default, metadata=metadata)


def harmless(default=dataclasses.MISSING, help="", choices=None):
    """A setting that may change when a run is continued: it touches neither networks nor data nor their course."""
    return setting(default, help, choices, harmless=True)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{self.prog}: {message}; see --help")


def parse(cls, arguments=None, program=None):
    """Command line -> instance of the settings dataclass. A boolean `x` has the flags --x and --no_x."""
    parser = Parser(prog=program, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in dataclasses.fields(cls):
        add_flag(parser, field, get_type_hints(cls)[field.name])
    return cls(**vars(parser.parse_args(arguments)))


def add_flag(parser, field, kind):
    flag, text = f"--{field.name}", field.metadata.get("help") or " "
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    if kind is bool:
        parser.add_argument(flag, action="store_true", default=default, help=text)
        parser.add_argument(
            f"--no_{field.name}", dest=field.name, action="store_false", default=default, help=argparse.SUPPRESS
        )
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


def to_dict(config) -> dict:
    return dataclasses.asdict(config)


def from_dict(cls, values: dict):
    """Inverse of to_dict; an unknown key is an error."""
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
    if unknown:
        raise UserError(f"settings of {cls.__name__} have unknown keys {unknown}; was the file edited or is it newer?")
    return cls(**values)


def save(config, path: Path):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(to_dict(config), indent=1) + "\n")


def require(condition, flag, found, wanted, remedy):
    """Raises the one sentence a user needs unless the condition holds."""
    if not condition:
        raise UserError(f"--{flag} is {found}, but must be {wanted}; {remedy}")
