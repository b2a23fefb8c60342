"""python -m SBGAN.compare: the table of the paper, from what the test recipes wrote; or its means over several seeds.

Examples:
    python -m SBGAN.compare --name camvid
    python -m SBGAN.compare --name cityscapes --results /data/results
    python -m SBGAN.compare --name toy_street --seeds 0,1,2
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from datasets.disk import replacing
from datasets.errors import UserError, exit_on_user_error
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.evaluation.scores import COLUMNS, flat_scores, left_out

PUBLISHED = {"cityscapes": 65.49, "cityscapes_25k": 62.97, "ade_indoor": 85.27}  # SB-GAN's FID, released protocol
ROWS = {  # name in the table: (ending of the run's name, row of its scores)
    "ProGAN": ("image", "generated"),
    "SB-GAN without fine-tuning": ("finetune", "generated, before fine-tuning"),
    "SB-GAN": ("finetune", "generated, fine-tuned"),
    "floor: real against real": ("finetune", "floor: real against real"),
}


@dataclass(frozen=True)
class ComparisonSettings:
    name: str = setting(help="the runs NAME_image and NAME_finetune have been tested")
    seeds: str | None = setting(None, "of several trainings, as 0,1,2: the means over NAME_seedSEED_image, ...")
    results: str = setting("results", "folder of all scores; the table over seeds goes there, too")


def read_record(config, ending: str) -> dict:
    path = Path(config.results) / f"{config.name}_{ending}" / "scores.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run the test recipe that writes it") from error


def comparison(records: dict) -> str:
    """{ending: record} -> text. Data, size and counts of both must be the same, or nothing can be compared."""
    image, joined = records["image"], records["finetune"]
    for key in ("data", "counts", "seed"):
        if image[key] != joined[key]:
            raise UserError(f"the two runs were scored with different {key}: {image[key]}, {joined[key]}; score again")
    rows = {name: joined_row(records[ending]["scores"], row) for name, (ending, row) in ROWS.items()}
    if rows["ProGAN"]["height"] != rows["SB-GAN"]["height"]:
        sizes = " and ".join(f"{rows[name]['height']} rows" for name in ("ProGAN", "SB-GAN"))
        print(f"warning: ProGAN and SB-GAN draw at {sizes}: their scores do not compare")
    columns = [c for c in COLUMNS if any(c in flat_scores(row) for row in rows.values())]
    published = PUBLISHED.get(joined["data"]["name"])
    lines = [f"{'':28}{'published':>11}" + "".join(f"{c:>{max(len(c) + 2, 11)}}" for c in columns)]
    for name, row in rows.items():
        cells = f"{published:>11}" if name == "SB-GAN" and published else f"{'':11}"
        found = flat_scores(row)
        for c in columns:
            width = max(len(c) + 2, 11)
            cells += f"{found[c]:{width}.4g}" if c in found else " " * width
        lines.append(f"{name:<28}{cells}".rstrip())
    lines.append("published: FID in the released protocol, to be compared with fid_released alone")
    return "\n".join(lines)


def joined_row(scores: dict, name: str) -> dict:
    if name not in scores:
        raise UserError(f"the scores have no row '{name}', only {', '.join(scores)}; score with all checkpoints there")
    return scores[name]


# --- Over several seeds, from what reproduce.sh has scored ---

ROWS_OF_SEEDS = {  # name in the table: (ending of the run's name, row of its scores)
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


def read_seed(config, seed: str) -> dict[str, dict[str, float]]:
    """Row of the table -> {column: number} of one seed. Raises UserError where a record is missing."""
    rows = {}
    for row, (ending, name) in ROWS_OF_SEEDS.items():
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

    rows = {row: {c: spread([one[row][c] for one in found]) for c in columns(row)} for row in ROWS_OF_SEEDS}
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
    config = settings.parse(ComparisonSettings, arguments, "SBGAN.compare", __doc__)
    if config.seeds:
        compare_seeds(config)
        return
    records = {ending: read_record(config, ending) for ending in ("image", "finetune")}
    print(comparison(records))
    for ending, record in records.items():
        for line in left_out(record):
            print(f"{config.name}_{ending}: {line}")


def compare_seeds(config):
    result = summary({seed: read_seed(config, seed) for seed in config.seeds.split(",")})
    for ending, text in (("json", json.dumps(result, indent=1) + "\n"), ("md", markdown(result))):
        with replacing(Path(config.results) / f"{config.name}_reproduction.{ending}") as temporary:
            temporary.write_text(text)
    print(markdown(result))


if __name__ == "__main__":
    main()
