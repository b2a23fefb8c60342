"""python -m SBGAN.compare: the table of the paper, from what the test recipes wrote.

Examples:
    python -m SBGAN.compare --name camvid
    python -m SBGAN.compare --name cityscapes --results /data/results
"""

import json
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError, exit_on_user_error
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.evaluation.record import COLUMNS, flat_scores, left_out

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
    results: str = setting("results", "folder of all scores")


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


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ComparisonSettings, arguments, "SBGAN.compare", __doc__)
    records = {ending: read_record(config, ending) for ending in ("image", "finetune")}
    print(comparison(records))
    for ending, record in records.items():
        for line in left_out(record):
            print(f"{config.name}_{ending}: {line}")


if __name__ == "__main__":
    main()
