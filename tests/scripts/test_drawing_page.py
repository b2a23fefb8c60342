"""The examples of docs/drawing.md, run as they stand, on a small model at the place that they name."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from SBGAN import generate, load
from SBGAN.app.studio import Studio
from tests.SBGAN.conftest import Untrained

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/drawing.md").read_text()


@pytest.fixture(scope="module")
def place(toy_store, tmp_path_factory):
    """A folder with the checkpoint, from which the repository's hubconf.py can be seen."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("place")
    checkpoint = Untrained(toy_store, tmp_path_factory.mktemp("untrained")).joined()
    (folder / "weights/toy_street_finetune").mkdir(parents=True)
    shutil.copy(checkpoint, folder / "weights/toy_street_finetune/finetune_1.pt")
    shutil.copy(ROOT / "hubconf.py", folder)
    studio = Studio(load(checkpoint, device="cpu"))
    studio.save(studio.scenes(1, 5, {})[0][0], 5, None, folder)
    return folder


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_functions(place, monkeypatch):
    monkeypatch.chdir(place)
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["model"].sample([0])[1].shape == (1, 3, 32, 64)
    assert len(blocks("python")) == 8


def test_commands(place, monkeypatch):
    monkeypatch.chdir(place)
    for line in blocks("bash")[0].splitlines():
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "SBGAN.generate"]
        generate.main([*words[3:], "--device", "cpu", *(["--steps", "5"] if "--shares" in words else [])])
    assert len(list((place / "alike/images").iterdir())) == 2
