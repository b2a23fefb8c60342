"""python -m SBGAN.compare: the table of the paper, from what the test recipes wrote; or its means over several seeds.

Examples:
    python -m SBGAN.compare --name camvid
    python -m SBGAN.compare --name cityscapes --results /data/results
    python -m SBGAN.compare --name toy_street --seeds 0,1,2
    python -m SBGAN.compare --name toy_street --seeds 0,1,2 --table usefulness --shares 0.1,0.25
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from datasets.errors import UserError, exit_on_user_error
from datasets.files import replacing
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


TABLES = ("reproduction", "augment", "usefulness")


@dataclass(frozen=True)
class ComparisonSettings:
    name: str = setting(help="the runs NAME_image and NAME_finetune have been tested")
    seeds: str | None = setting(None, "of several trainings, as 0,1,2: the means over NAME_seedSEED_image, ...")
    table: str = setting("reproduction", "over seeds: that of the recipe of this name", choices=TABLES)
    shares: str = setting("", "of real pairs, in the table of usefulness, as 0.1,0.25")
    weights: str = setting("weights", "folder of all checkpoints, whose scores that table reads")
    results: str = setting("results", "folder of all scores; the table over seeds goes there, too")


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


# --- Over several seeds, from what the recipes reproduce.sh, augment.sh and usefulness.sh have scored ---

BEFORE, ON_REAL, ON_BOTH = "before", "further, real layouts alone (control)", "further, generated and real layouts"
ROWS_OF_SEEDS = {  # table: name of the row: (ending of the run's name, row of its scores)
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
HIGHER = ("diversity", "precision", "recall", "miou", "accuracy", "fwiou")  # columns of which more is better
CEILING, ALONE, BOTH = "real pairs (ceiling)", "generated pairs alone (GAN-train)", "real and generated"


def read_seed(config, seed: str) -> dict[str, dict[str, float]]:
    """Row of the table -> {column: number} of one seed. Raises UserError where a record is missing."""
    if config.table == "usefulness":
        return read_usefulness(config, seed)
    rows = {}
    for row, (ending, name) in ROWS_OF_SEEDS[config.table].items():
        path = Path(config.results) / f"{config.name}_seed{seed}_{ending}" / "scores.json"
        rows[row] = numbers(joined_row(read_json(path)["scores"], name))
    return rows


def read_json(path: Path) -> dict:
    """The last record of a file."""
    try:
        text = path.read_text()
        return json.loads(text.splitlines()[-1] if path.suffix == ".jsonl" else text)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path} cannot be read ({error}); run the recipe that writes it") from error


def numbers(row: dict) -> dict[str, float]:
    return {column: x for column, x in flat_scores(row).items() if column in COLUMNS}


def read_usefulness(config, seed: str) -> dict[str, dict[str, float]]:
    """The same of segmentation networks: what each makes of real test pairs, and the first of generated pairs."""
    seen = {}

    def trained(run):
        record = read_json(Path(config.weights) / run / "metrics.jsonl")
        (row,) = record["scores"].values()
        seen[run] = record["images_seen"]
        return numbers(row)

    run, scores = f"{config.name}_worth{seed}", {}
    for path in (Path(config.results) / f"{run}_scores").rglob("scores.json"):
        scores = read_json(path)["scores"]
    rows = {
        CEILING: trained(f"{run}_real"),
        "alignment (images of real layouts)": numbers(joined_row(scores, "real layouts")),
        "GAN-test (generated pairs)": numbers(joined_row(scores, "generated")),
        ALONE: trained(f"{run}_generated"),
        BOTH: trained(f"{run}_both"),
    }
    for share in shares_of(config):
        run = f"{config.name}_share{share}_worth{seed}"
        rows[few(share)], rows[few_and_more(share)] = trained(f"{run}_real"), trained(f"{run}_both")
    if len(set(seen.values())) > 1:
        found = ", ".join(f"{run} {count}" for run, count in seen.items())
        raise UserError(f"networks were trained on different numbers of images ({found}); train them for as many steps")
    return {row: {c: x for c, x in found.items() if c in rows[CEILING]} for row, found in rows.items()}


def shares_of(config) -> list[str]:
    return [share for share in config.shares.split(",") if share]


def few(share: str) -> str:
    return f"{float(share):.0%} of real pairs"


def few_and_more(share: str) -> str:
    return f"{few(share)} and generated"


def spread(values: list[float]) -> dict:
    """Mean and standard deviation over seeds (0 where there is one)."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "values": values}


def summary(seeds: dict[str, dict], pairs) -> dict:
    """{seed: rows} -> {"rows": {row: {column: spread}}, "differences": the same of first minus second of the pairs}."""
    found = list(seeds.values())

    def columns(*rows):
        return [c for c in COLUMNS if all(c in one[row] for one in found for row in rows)]

    rows = {row: {c: spread([one[row][c] for one in found]) for c in columns(row)} for row in found[0]}
    differences = {
        f"{a} - {b}": {c: spread([one[a][c] - one[b][c] for one in found]) for c in columns(a, b)} for a, b in pairs
    }
    return {"seeds": list(seeds), "rows": rows, "differences": differences}


def markdown(result: dict) -> str:
    """Two tables: the rows, and the differences of pairs seed by seed."""
    blocks, shown = [], set()
    for title, rows in (("", result["rows"]), ("seed by seed", result["differences"])):
        columns = [c for c in COLUMNS if any(c in row for row in rows.values())]
        lines = [f"| {' | '.join([title, *columns])} |", "|---" * (len(columns) + 1) + "|"]
        for name, row in rows.items():
            cells = [f"{row[c]['mean']:.4g} ± {row[c]['std']:.2g}" if c in row else "" for c in columns]
            lines.append(f"| {' | '.join([name, *cells])} |")
        blocks.append("\n".join(lines))
        shown |= set(columns)
    higher = [c for c in HIGHER if c in shown]
    better = "lower is better" + (f", but for {', '.join(higher)}" if higher else "")
    return "\n\n".join([*blocks, f"Mean and standard deviation over {len(result['seeds'])} seeds; {better}.\n"])


def verdict(what: str, column: str, difference: dict) -> str:
    """A plain sentence of the spread of a column's differences over seeds."""
    change, std, count = difference["mean"], difference["std"], len(difference["values"])
    if count == 1:
        return f"{what} changed {column} by {change:+.3g}: one seed, which says little."
    gain = change if column in HIGHER else -change
    worth = "worth it" if gain > std else "harmful" if -gain > std else "not worth it"
    return f"{what} changed {column} by {change:+.3g} +- {std:.2g} ({count} seeds): {worth}."


def compare_seeds(config):
    """Writes and prints the table; says in words what the recipes of use ask."""
    pairs, claims = PAIRS.get(config.table, ()), {}
    if config.table == "usefulness":
        few_pairs = {f"Adding them to {few(share)}": (few_and_more(share), few(share)) for share in shares_of(config)}
        claims = {"Adding generated pairs": (BOTH, CEILING)} | few_pairs
        pairs = [(BOTH, CEILING), (ALONE, CEILING), *few_pairs.values()]
    elif config.table == "augment":
        claims = {"Training SPADE on generated layouts, too,": (ON_BOTH, ON_REAL)}
    result = summary({seed: read_seed(config, seed) for seed in config.seeds.split(",")}, pairs)
    text = markdown(result)
    for what, (a, b) in claims.items():
        found = result["differences"][f"{a} - {b}"]
        text += "".join(f"\n{verdict(what, c, found[c])}\n" for c in ("fid", "fd", "swd", "miou") if c in found)
    for ending, content in (("json", json.dumps(result, indent=1) + "\n"), ("md", text)):
        with replacing(Path(config.results) / f"{config.name}_{config.table}.{ending}") as temporary:
            temporary.write_text(content)
    print(text)


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ComparisonSettings, arguments, "SBGAN.compare", __doc__)
    if config.seeds:
        compare_seeds(config)
        return
    results = Path(config.results)
    records = {e: read_json(results / f"{config.name}_{e}" / "scores.json") for e in ("image", "finetune")}
    print(comparison(records))
    for ending, record in records.items():
        for line in left_out(record):
            print(f"{config.name}_{ending}: {line}")


if __name__ == "__main__":
    main()
