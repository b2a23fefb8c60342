"""python -m SBGAN.reproduction: the comparison of the paper over several seeds, from what reproduce.sh has scored."""

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

ROWS = {  # name in the table: (ending of the run's name, row of its scores)
    "ProGAN": ("image", "generated"),
    "not fine-tuned": ("finetune", "generated, before fine-tuning"),
    "control": ("control", "generated, fine-tuned"),
    "fine-tuned": ("finetune", "generated, fine-tuned"),
    "real layouts, not fine-tuned": ("finetune", "real layouts, before fine-tuning"),
    "real layouts, control": ("control", "real layouts, fine-tuned"),
    "real layouts, fine-tuned": ("finetune", "real layouts, fine-tuned"),
    "floor: real against real": ("finetune", "floor: real against real"),
}
PAIRS = (  # whose differences are taken seed by seed
    ("fine-tuned", "not fine-tuned"),
    ("fine-tuned", "control"),
    ("fine-tuned", "ProGAN"),
    ("real layouts, fine-tuned", "real layouts, not fine-tuned"),
    ("real layouts, fine-tuned", "real layouts, control"),
)


@dataclass(frozen=True)
class ReproductionSettings:
    name: str = setting(help="the runs NAME_seedSEED_image, _finetune and _control have been tested")
    seeds: str = setting("0,1,2", "of the trainings")
    results: str = setting("results", "folder of all scores; the table goes there, too")


def read_scores(config, seed: str) -> dict[str, dict[str, float]]:
    """Row of the table -> {column: number} of one seed. Raises UserError where a record is missing."""
    rows = {}
    for row, (ending, name) in ROWS.items():
        path = Path(config.results) / f"{config.name}_seed{seed}_{ending}" / "scores.json"
        try:
            scores = json.loads(path.read_text())["scores"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} cannot be read ({error}); run reproduce.sh, which writes it") from error
        rows[row] = {column: x for column, x in flat_scores(joined_row(scores, name)).items() if column in COLUMNS}
    return rows


def spread(values: list[float]) -> dict:
    """Mean and standard deviation over seeds (0 where there is one)."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "values": values}


def summary(seeds: dict[str, dict]) -> dict:
    """{seed: rows} -> {"rows": {row: {column: spread}}, "differences": the same of first minus second}."""
    found = list(seeds.values())

    def columns(*rows):
        return [c for c in COLUMNS if all(c in one[row] for one in found for row in rows)]

    rows = {row: {c: spread([one[row][c] for one in found]) for c in columns(row)} for row in ROWS}
    differences = {
        f"{a} - {b}": {c: spread([one[a][c] - one[b][c] for one in found]) for c in columns(a, b)} for a, b in PAIRS
    }
    return {"seeds": list(seeds), "rows": rows, "differences": differences}


def markdown(result: dict) -> str:
    """Two tables: the rows, and the differences of pairs seed by seed."""
    blocks = []
    for title, rows in (("", result["rows"]), ("seed by seed", result["differences"])):
        columns = [c for c in COLUMNS if any(c in row for row in rows.values())]
        lines = [f"| {' | '.join([title, *columns])} |", "|---" * (len(columns) + 1) + "|"]
        for name, row in rows.items():
            cells = [f"{row[c]['mean']:.4g} ± {row[c]['std']:.2g}" if c in row else "" for c in columns]
            lines.append(f"| {' | '.join([name, *cells])} |")
        blocks.append("\n".join(lines))
    count = len(result["seeds"])
    return "\n\n".join([*blocks, f"Mean and standard deviation over {count} seeds; lower is better, but diversity.\n"])


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ReproductionSettings, arguments, "SBGAN.reproduction", __doc__)
    result = summary({seed: read_scores(config, seed) for seed in config.seeds.split(",")})
    for ending, text in (("json", json.dumps(result, indent=1) + "\n"), ("md", markdown(result))):
        with replacing(Path(config.results) / f"{config.name}_reproduction.{ending}") as temporary:
            temporary.write_text(text)
    print(markdown(result))


if __name__ == "__main__":
    main()
