"""Recipes prepare the store by themselves, once, from wherever they are called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasets.packed import open_store

SCRIPTS = Path(__file__).parents[2] / "scripts"
RECIPE = f'source "{SCRIPTS}/toy_street/settings.sh"; source "{SCRIPTS}/recipe.sh"; '
PREPARE = RECIPE + "prepare=(--height 8 --width 16 --num_train 2 --num_val 1); prepare_store"


def bash(command, cwd):
    """As recipes run, by their own paths: none is inherited."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"store": "my store"}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_prepared_once_from_any_directory(tmp_path):
    done = bash(PREPARE, tmp_path)
    assert done.returncode == 0 and len(open_store(tmp_path / "my store")["train"]) == 2, done.stderr
    again = bash(PREPARE, tmp_path)
    assert again.returncode == 0 and again.stdout == again.stderr == ""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python before 3.11 always looks in the current directory first")
def test_a_package_called_datasets_where_the_caller_stands(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/__init__.py").write_text("raise RuntimeError('another package')")
    done = bash(PREPARE, tmp_path)
    assert done.returncode == 0, done.stderr


def test_toy_street_has_no_use_for_a_source(tmp_path):
    for _ in range(2):
        done = bash(f"export source=/data/another; {PREPARE}", tmp_path)
        assert done.returncode == 0 and len(open_store(tmp_path / "my store")["train"]) == 2, done.stderr
    assert done.stderr == ""


def folder_recipe(cwd, *arguments, **variables):
    """The recipes' own flags, and what was chosen for the store they made; nothing is trained."""
    command = (
        f'source "{SCRIPTS}/folder/settings.sh"; source "{SCRIPTS}/recipe.sh"; begin "$@"; echo "rest ${{rest[*]}}"'
    )
    command = ["bash", "-c", command, "recipe", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"height": "32"} | variables
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_pictures_of_ones_own(tmp_path):
    for i in range(10):
        for kind, value in (("images", (i, 50, 90)), ("labels", 3 * (i % 2))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("RGB" if kind == "images" else "L", (48, 40), value).save(tmp_path / kind / f"{i}.png")
    store = str(tmp_path / "my store")
    done = folder_recipe(tmp_path, "--source", str(tmp_path), "--seed", "3", store=store)
    assert done.returncode == 0, done.stderr
    assert "9 training images of 32x32 with 2 classes" in done.stdout and "rest --seed 3\n" in done.stdout
    opened = open_store(store)
    assert (len(opened["train"]), len(opened["val"]), opened.name) == (9, 1, "folder")
    again = folder_recipe(tmp_path, "--source=elsewhere", store=store)
    assert again.returncode == 0 and again.stderr.startswith(f"note: {store} is there already")
    assert "--source elsewhere" in again.stderr and "--ignore" not in again.stderr
    again = folder_recipe(tmp_path, "--ignore", "255", "--labelspace=other.json", store=store)
    assert again.returncode == 0 and again.stderr.startswith(f"note: {store} is there already")
    assert "--ignore 255" in again.stderr and "--labelspace other.json" in again.stderr
    table = '{"name": "t", "unlisted": "error", "classes": [{"train_id": 0, "name": "a", "colour": [0, 0, 0], '
    (tmp_path / "table.json").write_text(table + '"raw_ids": [0, 3]}]}')
    places = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    done = folder_recipe(tmp_path, *places, "--labelspace", "table.json", store=f"{store} 2", name="zoo", width="64")
    assert done.returncode == 0 and "of 32x64 with 1 classes" in done.stdout, done.stderr
    assert open_store(f"{store} 2").name == "zoo"


def test_pictures_of_ones_own_that_are_not_given(tmp_path):
    for given in ([], ["--images", "a"], ["--labels", "b"]):
        done = folder_recipe(tmp_path, *given, store=str(tmp_path / "none"))
        assert done.returncode == 2 and "add --source DIR" in done.stderr and not any(tmp_path.iterdir())
