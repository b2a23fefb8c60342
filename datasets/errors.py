"""Complaints about what a user can get wrong, in one sentence; flags that state their range. Bugs raise otherwise."""

import argparse
import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass


class UserError(Exception):
    """One sentence: the flag or file, the value found, the value wanted, what to do."""


def exit_on_user_error(main):
    """Wraps a command's main(): a UserError becomes one line on stderr and exit status 2, Ctrl-C status 130 alone."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped


# --- Command lines ---


@dataclass(frozen=True)
class Range:
    """The numbers that a flag takes; they are finite in any case."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    power_of_two: bool = False

    def __contains__(self, value) -> bool:
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (not self.power_of_two or (value > 0 and value & (value - 1) == 0))
        )

    def __str__(self) -> str:
        limits = ("at least", self.at_least), ("above", self.above), ("at most", self.at_most)
        words = ["a power of two"] if self.power_of_two else []
        words += [f"{word} {limit}" for word, limit in limits if limit is not None]
        return ", ".join(words) or "a finite number"


def number(kind: type, **limits) -> Callable:
    """The `type` of an argument of argparse that is a number in a range; limits: the arguments of `Range`."""

    def convert(text: str):
        value = kind(text)
        if value not in convert.range:
            raise argparse.ArgumentTypeError(f"{text} must be {convert.range}")
        return value

    convert.range, convert.__name__ = Range(**limits), kind.__name__
    return convert


class Parser(argparse.ArgumentParser):
    """Complains as all programs here do, and shows its description as it is written."""

    def __init__(self, program: str | None = None, description: str | None = None, **more):
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**{"prog": program, "allow_abbrev": False} | more, description=description)

    def error(self, message):
        raise UserError(f"{self.prog}: {message}; see --help")


class Switch(argparse.Action):
    """A boolean `x` has the flags --x and --no_x."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, option_string == f"--{self.dest}")
