"""Checkpoints: files from which the networks can be rebuilt without anything else, and that know if they are whole.

    content | magic 8 bytes | position u64 | length of the content u64 | SHA-256 of all before it

The content is torch.save's; `position` is the number of images seen, to sort files by without reading them.
"""

import hashlib
import json
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from datasets.files import replacing
from datasets.packed import Store, open_store
from SPADE.engine.device import place

FORMAT = 1
DATA = ("name", "label_space", "label_space_hash", "height", "width", "aspect")  # what `data_record` gives
MAGIC = b"SBGANend"
HEAD = struct.Struct("<8sQQ")
TRAILER = HEAD.size + hashlib.sha256().digest_size


def record(network, average=None) -> dict:
    """Everything that `rebuild` needs: constructor arguments, weights, and their moving average if there is one."""
    entry = {"arguments": network.arguments, "state": network.state_dict()}
    return entry | ({"average": average.state_dict()} if average is not None else {})


def rebuild(cls, entry: dict, device="cpu", averaged: bool = True):
    """Builds a network from its record. averaged: with the moving average of its weights, if the record has one."""
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
    write_sealed(path, content.get("images_seen", 0), lambda file: torch.save(content, file))


def load(path: Path, stage: str) -> dict:
    """The content of a checkpoint of the given stage, on the CPU."""
    return read(path, stage).content


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's file, as it was read."""

    path: Path
    content: dict
    sha256: str  # first 16 digits

    @property
    def stage(self) -> str:
        return self.content["stage"]

    def described(self, averaged: bool) -> dict:
        """The checkpoint's entry in a record of scores. averaged: were averages taken, if there are any?"""
        has_average = any("average" in entry for entry in self.content["networks"].values())
        weights = "average" if averaged and has_average else "last"
        return {"file": str(self.path), "sha256": self.sha256, "weights": weights}


def read(path: Path, *stages: str) -> Checkpoint:
    """Reads a checkpoint of one of the stages, once. UserError if it is missing, damaged or of another kind."""
    path, wanted = Path(path), " or ".join(stages)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; train {wanted} first or name another file")
    try:
        digest = verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (Damaged, RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError,
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
    """The path folder/PREFIX_NUMBER.pt with this number, or with the highest there is."""
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
    """The number in PREFIX_NUMBER.pt."""
    return int(path.stem.rsplit("_", 1)[1])


class Damaged(Exception):
    """Says what is wrong with a file."""


class HashedFile:
    """A file opened for writing that keeps the SHA-256 and the length of what went through it."""

    def __init__(self, file):
        self.file, self.hash, self.length = file, hashlib.sha256(), 0
        self.error = None  # what a write failed with; torch.save raises another error instead

    def write(self, data) -> int:
        self.hash.update(data)
        self.length += memoryview(data).nbytes
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self):
        self.file.flush()


def write_sealed(path: Path, position: int, fill):
    """fill(file) writes the content. The file appears under its name when it is whole and on the disk, or not at all.

    Any error leaves what was there before, and nothing else.
    """
    with replacing(path, durable=True, ending="") as temporary, open(temporary, "wb") as file:  # no torn *.pt
        hashed = HashedFile(file)
        try:
            fill(hashed)
        except Exception as error:
            raise hashed.error or error from None
        head = HEAD.pack(MAGIC, position, hashed.length)
        hashed.hash.update(head)
        file.write(head + hashed.hash.digest())


def position(path: Path) -> int:
    """Reads the trailer's position, after a look at the length alone. Raises Damaged."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(size - TRAILER, 0))
        trailer = file.read()
    if len(trailer) < TRAILER or not trailer.startswith(MAGIC):
        raise Damaged("its end is missing")
    _, found, length = HEAD.unpack(trailer[: HEAD.size])
    if length + TRAILER != size:
        raise Damaged(f"it has {size} bytes instead of {length + TRAILER}")
    return found


def verify(path: Path) -> str:
    """Reads the whole file; returns its SHA-256. Raises Damaged."""
    position(path)
    rest, digest = path.stat().st_size - TRAILER + HEAD.size, hashlib.sha256()
    with open(path, "rb") as file:
        while rest:
            block = file.read(min(rest, 1 << 20))
            if not block:
                raise Damaged("it ends too early")
            digest.update(block)
            rest -= len(block)
        seal = file.read()
    if seal != digest.digest():
        raise Damaged("its checksum differs")
    digest.update(seal)
    return digest.hexdigest()


# --- The data that a checkpoint was trained on ---


def data_record(store) -> dict:
    """A checkpoint's record of its data set: enough to name classes, colour layouts and to refuse other data."""
    return {
        "name": store.name,
        "label_space": store.label_space.to_dict(),
        "label_space_hash": store.label_space.hash,
        "height": store.height,
        "width": store.width,
        "aspect": store.aspect,
        "training_images": content_hash(store["train"]),
    }


def content_hash(split) -> str:
    """Hash of what a split holds and how often each image is drawn: a run is continued on the same data only."""
    return hashlib.sha256(json.dumps([split.names, split.weights, split.crc32]).encode()).hexdigest()[:16]


def stored_data(content: dict, path: Path, store_path: str | None) -> Store:
    """The store that is named, else the one that the checkpoint was trained on; checked to fit the checkpoint."""
    where = store_path or content.get("config", {}).get("store")
    if where is None:
        raise UserError(f"{path} doesn't say what data it was trained on; pass --store, a packed store of that data")
    store = open_store(where)
    check_store(content["data"], path, store, where)
    return store


def check_store(data: dict, path: Path, store, store_path):
    """Refuses a store whose data set, label table or size is not that of a checkpoint's data. Raises UserError."""
    if data["name"] != store.name:
        raise UserError(
            f"--store {store_path} is {store.name}, but {path} was trained on {data['name']}; "
            "pass the store of that data set"
        )
    wanted = {"label_space_hash": store.label_space.hash, "label_space": store.label_space.to_dict()}
    check_label_space(data, path, wanted, f"--store {store_path}")
    if (data["height"], data["width"]) != (store.height, store.width):
        raise UserError(
            f"--store {store_path} has images of {store.height}x{store.width}, but {path} was trained on "
            f"{data['height']}x{data['width']}; prepare a store of that size, or train again"
        )


def check_label_space(a: dict, a_path, b: dict, b_name: str):
    """Refuses the data of two checkpoints, or of one and a store, with different label tables. Raises UserError."""
    if a["label_space_hash"] != b["label_space_hash"]:
        counts = [len(data["label_space"]["classes"]) for data in (a, b)]
        raise UserError(
            f"{a_path} has {counts[0]} classes and {b_name} has {counts[1]}, or other ones; "
            "train both stages on one label space"
        )
