"""python -m SBGAN.reproduction: comparisons over several seeds, from what reproduce.sh or augment.sh has scored."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from datasets.disk import replacing
from datasets.errors import UserError, exit_on_user_error
from SBGAN.compare import joined_row
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.evaluation.record import COLUMNS, flat_scores

BEFORE, ON_REAL, ON_BOTH = "before", "further, real layouts alone (control)", "further, generated and real layouts"
ROWS = {  # table: name of the row: (ending of the run's name, row of its scores)
    "reproduction": {
        "ProGAN": ("image", "generated"),
        "not fine-tuned": ("finetune", "generated, before fine-tuning"),
        "control": ("control", "generated, fine-tuned"),
        "fine-tuned": ("finetune", "generated, fine-tuned"),
        "real layouts, not fine-tuned": ("finetune", "real layouts, before fine-tuning"),
        "real layouts, control": ("control", "real layouts, fine-tuned"),
        "real layouts, fine-tuned": ("finetune", "real layouts, fine-tuned"),
        "floor: real against real": ("finetune", "floor: real against real"),
    },
    "augment": {  # all of images of real layouts
        BEFORE: ("augment", "real layouts, before fine-tuning"),
        ON_REAL: ("augment_control", "real layouts, fine-tuned"),
        ON_BOTH: ("augment", "real layouts, fine-tuned"),
        "floor: real against real": ("augment", "floor: real against real"),
    },
}
PAIRS = {  # table: rows whose differences are taken seed by seed
    "reproduction": (
        ("fine-tuned", "not fine-tuned"),
        ("fine-tuned", "control"),
        ("fine-tuned", "ProGAN"),
        ("real layouts, fine-tuned", "real layouts, not fine-tuned"),
        ("real layouts, fine-tuned", "real layouts, control"),
    ),
    "augment": ((ON_BOTH, ON_REAL), (ON_BOTH, BEFORE)),
}
LOWER = "lower is better, but for diversity, precision, recall, miou, accuracy and fwiou."


@dataclass(frozen=True)
class ReproductionSettings:
    name: str = setting(help="the runs NAME_seedSEED_image, _finetune, _control or _augment have been tested")
    seeds: str = setting("0,1,2", "of the trainings")
    table: str = setting("reproduction", "of reproduce.sh, or of augment.sh", choices=tuple(ROWS))
    results: str = setting("results", "folder of all scores; the table goes there, too")


def read_scores(config, seed: str) -> dict[str, dict[str, float]]:
    """Row of the table -> {column: number} of one seed. Raises UserError where a record is missing."""
    rows = {}
    for row, (ending, name) in ROWS[config.table].items():
        path = Path(config.results) / f"{config.name}_seed{seed}_{ending}" / "scores.json"
        try:
            scores = json.loads(path.read_text())["scores"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} cannot be read ({error}); run the recipe that writes it") from error
        rows[row] = {column: x for column, x in flat_scores(joined_row(scores, name)).items() if column in COLUMNS}
    return rows


def spread(values: list[float]) -> dict:
    """Mean and standard deviation over seeds (0 where there is one)."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "values": values}


def summary(seeds: dict[str, dict], pairs) -> dict:
    """{seed: rows} -> {"rows": {row: {column: spread}}, "differences": the same of first minus second}.

    pairs: of rows, whose differences are taken seed by seed.
    """
    found = list(seeds.values())

    def columns(*rows):
        return [c for c in COLUMNS if all(c in one[row] for one in found for row in rows)]

    rows = {row: {c: spread([one[row][c] for one in found]) for c in columns(row)} for row in found[0]}
    differences = {
        f"{a} - {b}": {c: spread([one[a][c] - one[b][c] for one in found]) for c in columns(a, b)} for a, b in pairs
    }
    return {"seeds": list(seeds), "rows": rows, "differences": differences}


def markdown(result: dict, remark: str) -> str:
    """Two tables: the rows, and the differences of pairs seed by seed. remark: behind how many seeds it is."""
    blocks = []
    for title, rows in (("", result["rows"]), ("seed by seed", result["differences"])):
        columns = [c for c in COLUMNS if any(c in row for row in rows.values())]
        lines = [f"| {' | '.join([title, *columns])} |", "|---" * (len(columns) + 1) + "|"]
        for name, row in rows.items():
            cells = [f"{row[c]['mean']:.4g} ± {row[c]['std']:.2g}" if c in row else "" for c in columns]
            lines.append(f"| {' | '.join([name, *cells])} |")
        blocks.append("\n".join(lines))
    count = len(result["seeds"])
    return "\n\n".join([*blocks, f"Mean and standard deviation over {count} seeds; {remark}\n"])


def verdict(what: str, column: str, difference: dict, good: int) -> str:
    """A plain sentence of the spread of a column's differences over seeds; good: 1 where more is better, else -1."""
    mean, std, count = difference["mean"], difference["std"], len(difference["values"])
    if count == 1:
        return f"{what} changed {column} by {mean:+.3g}: one seed, which says little.\n"
    worth = "worth it" if good * mean > std else "harmful" if -good * mean > std else "not worth it"
    return f"{what} changed {column} by {mean:+.3g} +- {std:.2g} ({count} seeds): {worth}.\n"


def write(result: dict, text: str, stem: Path):
    """STEM.json and STEM.md, and the latter on the screen."""
    for ending, content in (("json", json.dumps(result, indent=1) + "\n"), ("md", text)):
        with replacing(stem.with_name(f"{stem.name}.{ending}")) as temporary:
            temporary.write_text(content)
    print(text)


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ReproductionSettings, arguments, "SBGAN.reproduction", __doc__)
    result = summary({seed: read_scores(config, seed) for seed in config.seeds.split(",")}, PAIRS[config.table])
    text = markdown(result, LOWER)
    if config.table == "augment":
        differences = result["differences"][f"{ON_BOTH} - {ON_REAL}"]
        for column, good in (("fid", -1), ("fd", -1), ("swd", -1), ("miou", 1)):
            if column in differences:
                text += "\n" + verdict("Training SPADE on generated layouts, too,", column, differences[column], good)
    write(result, text, Path(config.results) / f"{config.name}_{config.table}")


if __name__ == "__main__":
    main()
