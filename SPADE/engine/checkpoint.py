"""Checkpoints: files from which the networks can be rebuilt without anything else."""

import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from SPADE.engine import sealed
from SPADE.engine.device import place

FORMAT = 1
DATA = ("name", "label_space", "label_space_hash", "height", "width", "aspect")  # what `data_record` gives


def record(network, average=None) -> dict:
    """What `rebuild` needs: constructor arguments and weights, and their moving average if there is one."""
    entry = {"arguments": network.arguments, "state": network.state_dict()}
    return entry | ({"average": average.state_dict()} if average is not None else {})


def rebuild(cls, entry: dict, device="cpu", averaged: bool = True):
    """averaged: with the moving average of the weights, where the record has one."""
    try:
        network = cls(**entry["arguments"])
        network.load_state_dict(entry.get("average", entry["state"]) if averaged else entry["state"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:  # what a file can have wrong
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the checkpoint's {cls.__name__} cannot be rebuilt ({type(error).__name__}: {reason}): "
            "it was altered or is of another version of this code; use another one"
        ) from error
    return place(network, device)


def save(path: Path, stage: str, content: dict):
    """Writes {"format", "stage", **content}. A checkpoint is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "stage": stage, **content}
    sealed.write(path, content.get("images_seen", 0), lambda file: torch.save(content, file))


def load(path: Path, stage: str) -> dict:
    """The content of a checkpoint of the given stage, on the CPU."""
    return read(path, stage).content


@dataclass(frozen=True)
class Checkpoint:
    """A file that was read."""

    path: Path
    content: dict
    sha256: str  # first 16 digits

    @property
    def stage(self) -> str:
        return self.content["stage"]

    def described(self, averaged: bool) -> dict:
        """What a record of scores says of it. averaged: were the averages of the weights taken, if there are any?"""
        has_average = any("average" in entry for entry in self.content["networks"].values())
        weights = "average" if averaged and has_average else "last"
        return {"file": str(self.path), "sha256": self.sha256, "weights": weights}


def read(path: Path, *stages: str) -> Checkpoint:
    """Reads a checkpoint of one of the stages, once. UserError if it is missing, damaged or of another kind."""
    path, wanted = Path(path), " or ".join(stages)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; train {wanted} first or name another file")
    try:
        digest = sealed.verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (sealed.Damaged, RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError,
            KeyError) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"checkpoint {path} cannot be read ({reason[:120]}): it is damaged or no checkpoint; use another one"
        ) from error
    if not isinstance(content, dict) or "stage" not in content:
        raise UserError(f"{path} is no checkpoint of this code (it has no stage); train one or name another file")
    if content["stage"] not in stages:
        raise UserError(f"checkpoint {path} is of stage {content['stage']}, wanted {wanted}; name a file of that stage")
    if content["format"] > FORMAT:
        raise UserError(f"checkpoint {path} has format {content['format']}, this code reads {FORMAT}; update the code")
    missing = [key for key in ("data", "networks") if not isinstance(content.get(key), dict)]
    missing = missing or [key for key in DATA if key not in content["data"]]
    if missing:
        raise UserError(f"checkpoint {path} has no {', '.join(missing)}: it was altered; use another one")
    return Checkpoint(path, content, digest[:16])


def newest(folder: Path, prefix: str, number: int | None = None, flag: str = "") -> Path:
    """folder/PREFIX_NUMBER.pt with this number, or with the highest one."""
    folder = Path(folder)
    found = {}
    for path in folder.glob(f"{prefix}_*.pt"):
        match = re.fullmatch(rf"{prefix}_(\d+)\.pt", path.name)
        if match:
            found[int(match[1])] = path
    if not found:
        raise UserError(f"no checkpoint {prefix}_*.pt in {folder}; run the stage that writes it first")
    if number is None:
        return found[max(found)]
    if number not in found:
        raise UserError(f"--{flag} is {number}, but {folder} has {sorted(found)}; take one of those or leave it out")
    return found[number]


def number_of(path: Path) -> int:
    """NUMBER of PREFIX_NUMBER.pt."""
    return int(path.stem.rsplit("_", 1)[1])
