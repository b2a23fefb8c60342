"""Files with a trailer: whole, or recognised as not."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets.errors import UserError
from SPADE.engine import checkpoint

CONTENT = {
    "images_seen": 12,
    "values": torch.arange(1000.0),
    "data": dict.fromkeys(checkpoint.DATA),
    "networks": {},
}


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "spade_1.pt", "spade", CONTENT)
    return tmp_path / "spade_1.pt"


def test_the_trailer_is_what_its_description_says(saved):
    data = saved.read_bytes()
    assert data[-32:] == hashlib.sha256(data[:-32]).digest()
    magic, position, length = data[-56:-48], data[-48:-40], data[-40:-32]
    assert magic == b"SBGANend" and int.from_bytes(position, "little") == 12
    assert int.from_bytes(length, "little") == len(data) - 56
    assert checkpoint.position(saved) == 12 and checkpoint.verify(saved) == hashlib.sha256(data).hexdigest()


def test_reading_gives_what_was_written(saved):
    content = checkpoint.load(saved, "spade")
    assert content["images_seen"] == 12 and torch.equal(content["values"], CONTENT["values"])


def test_every_truncation_is_recognised(saved):
    data, draw = saved.read_bytes(), random.Random(0)
    lengths = {0, 1, 55, 56, len(data) - 57, len(data) - 56, len(data) - 1, *draw.sample(range(len(data)), 50)}
    for length in lengths:
        saved.write_bytes(data[:length])
        with pytest.raises(UserError, match="spade_1.pt"):
            checkpoint.load(saved, "spade")


def test_every_flipped_bit_is_recognised(saved):
    data, draw = saved.read_bytes(), random.Random(1)
    for place in [*(draw.randrange(len(data)) for _ in range(60)), *range(len(data) - 56, len(data))]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        saved.write_bytes(damaged)
        with pytest.raises(UserError, match="spade_1.pt"):
            checkpoint.load(saved, "spade")


class Malicious:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_a_whole_file_with_code_does_not_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"format": 1, "stage": "spade", "networks": Malicious()}
    checkpoint.write_sealed(tmp_path / "spade_1.pt", 0, lambda file: torch.save(content, file))
    with pytest.raises(UserError, match="spade_1.pt"):
        checkpoint.load(tmp_path / "spade_1.pt", "spade")
    assert not (tmp_path / "ran").exists()


FULL = """
import resource, sys
from pathlib import Path
import torch
from SPADE.engine import checkpoint
path, *limits = sys.argv[1:]
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        checkpoint.save(Path(path), "spade", {"images_seen": 99, "values": torch.zeros(100000)})
    except OSError:
        continue
    sys.exit(f"written with room for {limit} bytes")
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(saved):
    command = [sys.executable, "-c", FULL, str(saved), "0", "5000", "399000"]
    subprocess.run(command, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL, check=True)
    assert checkpoint.load(saved, "spade")["images_seen"] == 12
    assert list(saved.parent.iterdir()) == [saved]
