"""python -m SBGAN.usefulness: what generated pairs are worth as data, over seeds, from what usefulness.sh made."""

import json
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError, exit_on_user_error
from SBGAN.reproduction import markdown, summary, verdict, write
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.evaluation.record import flat_scores

COLUMNS = ("miou", "accuracy", "fwiou")
CEILING, ALONE, BOTH = "real pairs (ceiling)", "generated pairs alone (GAN-train)", "real and generated"


@dataclass(frozen=True)
class UsefulnessSettings:
    name: str = setting(help="the runs NAME_worthSEED_real, _generated and _both, and those of the shares, are made")
    seeds: str = setting("0,1,2", "of the segmentation networks")
    shares: str = setting("", "of real pairs that NAME_shareSHARE_... were trained on, such as 0.1,0.25")
    weights: str = setting("weights", "folder of all checkpoints")
    results: str = setting("results", "folder of all scores; the table goes there, too")


def trained(config, run: str) -> dict:
    """The last scores of a segmentation network on real test pairs, and the images it had seen."""
    path = Path(config.weights) / run / "metrics.jsonl"
    try:
        record = json.loads(path.read_text().splitlines()[-1])
        (row,) = record["scores"].values()
        return flat_scores(row) | {"images_seen": record["images_seen"]}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); run usefulness.sh, which makes it") from error


def asked(config, run: str, kind: str) -> dict:
    """What a segmentation network sees in generated pairs: the row of this kind."""
    folder = Path(config.results) / f"{run}_scores"
    for path in folder.rglob("scores.json"):
        found = [row for name, row in json.loads(path.read_text())["scores"].items() if name.startswith(kind)]
        if found:
            return flat_scores(found[-1])
    raise UserError(f"{folder} has no scores of {kind} pairs; run usefulness.sh, which makes them")


def read_seed(config, seed: str, shares: list[str]) -> dict[str, dict[str, float]]:
    """Row of the table -> {column: number} of one seed."""
    run = f"{config.name}_worth{seed}"
    rows = {
        CEILING: trained(config, f"{run}_real"),
        "alignment (images of real layouts)": asked(config, run, "real layouts"),
        "GAN-test (generated pairs)": asked(config, run, "generated"),
        ALONE: trained(config, f"{run}_generated"),
        BOTH: trained(config, f"{run}_both"),
    }
    for share in shares:
        run = f"{config.name}_share{share}_worth{seed}"
        rows[few(share)], rows[few_and_more(share)] = trained(config, f"{run}_real"), trained(config, f"{run}_both")
    seen = {row: scores.pop("images_seen") for row, scores in rows.items() if "images_seen" in scores}
    if len(set(seen.values())) > 1:
        listed = ", ".join(f"{row} {count}" for row, count in seen.items())
        raise UserError(f"the networks of seed {seed} have seen different numbers of images ({listed}): nothing can be "
                        "compared; train them for as many steps")  # fmt: skip
    return {row: {c: scores[c] for c in COLUMNS if c in scores} for row, scores in rows.items()}


def few(share: str) -> str:
    return f"{float(share):.0%} of real pairs"


def few_and_more(share: str) -> str:
    return f"{few(share)} and generated"


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(UsefulnessSettings, arguments, "SBGAN.usefulness", __doc__)
    shares = [share for share in config.shares.split(",") if share]
    pairs = [(BOTH, CEILING), (ALONE, CEILING), *((few_and_more(share), few(share)) for share in shares)]
    result = summary({seed: read_seed(config, seed, shares) for seed in config.seeds.split(",")}, pairs)
    changes = {"Adding generated pairs": pairs[0]}
    changes |= {f"Adding them to {few(share)}": pair for share, pair in zip(shares, pairs[2:], strict=True)}
    text = markdown(result, "higher is better.")
    for what, (a, b) in changes.items():
        text += "\n" + verdict(what, "miou", result["differences"][f"{a} - {b}"]["miou"], 1)
    write(result, text, Path(config.results) / f"{config.name}_usefulness")


if __name__ == "__main__":
    main()
