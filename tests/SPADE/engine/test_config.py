"""What a number may be is declared once, and checked for every program."""

import dataclasses
from typing import get_args, get_type_hints

import pytest

from datasets.errors import Range, UserError
from SBGAN.settings_page import PROGRAMS, module_of
from SPADE.engine.config import RunSettings, WarmStart, harmless, make_parser, parse, reconcile, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    width: int = setting(64, "channels", at_least=1)
    rows: int | None = setting(None, "layout height", at_least=4, power_of_two=True)
    rate: float = setting(1e-3, "of learning, 100 %", above=0)
    share: float = harmless(0.5, "of pixels", at_least=0, at_most=1)
    free: float = setting(0.0, "anything")
    flip: bool = setting(True, "mirror images")
    stride: int = setting(1, "1 or 2", (1, 2))


@pytest.mark.parametrize(
    "flag, value, wanted",
    [
        ("width", "0", "at least 1"),
        ("rows", "24", "a power of two, at least 4"),
        ("rows", "2", "a power of two, at least 4"),
        ("rate", "0", "above 0"),
        ("rate", "nan", "above 0"),
        ("rate", "inf", "above 0"),
        ("share", "1.5", "at least 0, at most 1"),
        ("free", "nan", "a finite number"),
        ("free", "-inf", "a finite number"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(flag, value, wanted):
    with pytest.raises(UserError, match=f"^--{flag} is .*, but must be {wanted}; "):
        parse(Example, [f"--{flag}={value}"], "example")


def test_numbers_at_the_ends_of_their_ranges_are_taken():
    config = parse(Example, ["--width", "1", "--rows", "4", "--share", "1", "--no_flip", "--free=-3"], "example")
    assert config == Example(width=1, rows=4, share=1.0, flip=False, free=-3.0)


def test_choices_among_numbers():
    with pytest.raises(UserError, match="stride"):
        parse(Example, ["--stride", "3"], "example")


def test_help_says_range_default_and_how_to_switch_off():
    text = " ".join(make_parser(Example, "example", "Does nothing.").format_help().split())
    assert text.startswith("usage: python -m example [more flags] Does nothing.")
    assert "channels (at least 1; default 64)" in text and "of learning, 100 % (above 0; default 0.001)" in text
    assert "--flip, --no_flip mirror images (default on)" in text


@pytest.mark.parametrize("program, settings", [item for item in PROGRAMS.items() if item[1] != "make_parser"])
def test_every_number_of_every_program_has_a_range_that_its_default_is_in(program, settings):
    cls = getattr(module_of(program), settings)
    for field in dataclasses.fields(cls):
        kind = get_type_hints(cls)[field.name]
        if kind in (int, float) or {int, float} & set(get_args(kind)):
            limits, choices = field.metadata["range"], field.metadata["choices"]
            assert choices or limits != Range(), f"--{field.name} of {program}"
            assert choices or field.default is None or field.default in limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(WarmStart, RunSettings):
    flip: bool = setting(True, "mirror images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Falling(RunSettings):
    batch_size: int = setting(4, "images")
    niter: int = setting(2, "epochs")


@pytest.mark.parametrize("seen, fits", [(732, True), (736, True), (740, False)])
def test_a_schedule_grows_while_its_last_step_was_at_the_full_rate(seen, fits):
    """Of 2 epochs of 367 images the last step is made at 732, and ends at 736."""
    saved, config = Falling(store="s", name="x"), Falling(store="s", name="x", niter=4)
    arguments = dataclasses.asdict(saved), config, seen, lambda config: 367 * config.niter
    if fits:
        assert reconcile(*arguments) == ["--niter 4 instead of 2"]
    else:
        with pytest.raises(UserError, match="--niter"):
            reconcile(*arguments)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ({"start_from": "a.pt"}, {}, "--from is not given, but the run x was begun with --from a.pt, "),
        ({}, {"start_from": "a.pt"}, "--from is a.pt, but the run x was begun with no --from, "),
        ({"flip": False}, {}, "--flip is True, but the run x was begun with --no_flip, "),
        ({"seed": 1}, {"seed": 2}, "--seed is 2, but the run x was begun with --seed 1, "),
    ],
)
def test_a_run_of_other_settings_is_refused_in_the_words_of_its_command_line(old, new, said):
    saved, config = (Run(store="s", name="x", **more) for more in (old, new))
    with pytest.raises(UserError, match=f"^{said}"):
        reconcile(dataclasses.asdict(saved), config, images_seen=0)
