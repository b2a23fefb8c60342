"""python -m SBGAN.settings_page > docs/settings.md: every flag of every program, from where it is declared."""

import argparse
from importlib import import_module

from datasets.errors import Parser
from SPADE.engine.config import make_parser

PROGRAMS = {  # module: what makes its parser, or its settings
    "datasets.prepare": "make_parser",
    "datasets.doctor": "make_parser",
    "SBGAN.train_progressive_seg": "LayoutSettings",
    "SPADE.train": "SpadeSettings",
    "SBGAN.train_finetune_end2end": "FinetuneSettings",
    "SBGAN.train_segmenter": "SegmenterSettings",
    "SBGAN.evaluate": "EvaluationSettings",
    "SBGAN.generate": "GenerationSettings",
    "SBGAN.app": "PageSettings",
    "SBGAN.report": "make_parser",
    "SBGAN.export": "ExportSettings",
    "SBGAN.import_released": "ImportSettings",
    "SBGAN.train_progressive": "BaselineSettings",
    "SBGAN.compare": "ComparisonSettings",
    "SBGAN.benchmark": "BenchmarkSettings",
    "datasets.benchmark": "make_parser",
}
HEAD = """# Settings

Every flag of every program, as `python -m PROGRAM --help` prints them. Numbers of a data set stand in its
`scripts/<data set>/settings.sh`. Made by `python -m SBGAN.settings_page > docs/settings.md`.
"""


def module_of(program: str):
    """The module that `python -m PROGRAM` runs."""
    module = import_module(program)
    return import_module(f"{program}.__main__") if hasattr(module, "__path__") else module


def parser_of(program: str) -> Parser:
    module = module_of(program)
    declared = getattr(module, PROGRAMS[program])
    return declared() if PROGRAMS[program] == "make_parser" else make_parser(declared, program, module.__doc__)


def section(title: str, parser: Parser) -> list[str]:
    """Description and table of one program; a program with subcommands has a section for each of these."""
    lines = [f"\n## {title}\n", "```text", parser.description.strip(), "```\n"]
    rows, subcommands = [], {}
    for action in parser._actions:  # argparse offers no other way to list them
        if isinstance(action, argparse._SubParsersAction):
            subcommands = action.choices
        elif action.dest != "help":
            rows.append(f"| {names_of(action)} | {meaning_of(action)} |")
    lines += ["| flag | meaning |", "|---|---|", *rows] if rows else []
    for name, inner in subcommands.items():
        lines += section(f"{title} {name}", inner)
    return lines


def names_of(action) -> str:
    """`--precision {fp32,tf32,bf16}`, `--ema, --no_ema`, `--lr LR`"""
    names = ", ".join(action.option_strings) or action.dest
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    return f"`{names} {value}`" if action.option_strings and action.nargs != 0 else f"`{names}`"


def meaning_of(action) -> str:
    """The flag's help, and its default where the help doesn't say it."""
    text = (action.help or "").replace("%%", "%").replace("|", "\\|")
    silent = action.default in (None, "", False) or "default" in text
    return text if silent else f"{text} (default {action.default})"


def page() -> str:
    lines = [line for program in PROGRAMS for line in section(program, parser_of(program))]
    return "\n".join([HEAD.rstrip(), *lines]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
