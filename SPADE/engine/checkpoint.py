"""Checkpoints: files from which the networks can be rebuilt without anything else."""

import pickle
import re
import zipfile
from pathlib import Path

import torch

from datasets.disk import sha256
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
    """Reads a checkpoint of the given stage onto the CPU. UserError if it is missing, damaged or of another kind."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; train {stage} first or name another file")
    try:
        sealed.verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (sealed.Damaged, RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError,
            KeyError) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"checkpoint {path} cannot be read ({reason[:120]}): it is damaged or no checkpoint; use another one"
        ) from error
    if not isinstance(content, dict) or "stage" not in content:
        raise UserError(f"{path} is no checkpoint of this code (it has no stage); train one or name another file")
    if content["stage"] != stage:
        raise UserError(f"checkpoint {path} is of stage {content['stage']}, wanted {stage}; name a file of that stage")
    if content["format"] > FORMAT:
        raise UserError(f"checkpoint {path} has format {content['format']}, this code reads {FORMAT}; update the code")
    missing = [key for key in ("data", "networks") if not isinstance(content.get(key), dict)]
    missing = missing or [key for key in DATA if key not in content["data"]]
    if missing:
        raise UserError(f"checkpoint {path} has no {', '.join(missing)}: it was altered; use another one")
    return content


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


def has_average(path: Path) -> bool:
    """Does a checkpoint hold a moving average of any network's weights?"""
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return any("average" in entry for entry in content["networks"].values())


def number_of(path: Path) -> int:
    """Of PREFIX_NUMBER.pt."""
    return int(path.stem.rsplit("_", 1)[1])


def file_hash(path: Path) -> str:
    """First 16 hex digits of the file's SHA-256, for score records."""
    return sha256(path)[:16]
