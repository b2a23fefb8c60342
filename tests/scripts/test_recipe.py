"""What a recipe does before its program: it makes the store, once, or says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasets.packed import open_store

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(data_set, script, *arguments, cwd, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in variables.items()}}
    command = ["bash", str(SCRIPTS / data_set / f"{script}.sh"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_a_store_that_is_not_there_needs_a_source(tmp_path):
    done = run("camvid", "train_spade", "--batch_size", "4", cwd=tmp_path, store=tmp_path / "none")
    assert done.returncode == 2 and "--source" in done.stderr and not any(tmp_path.iterdir())
    done = run("camvid", "train_spade", "--source", tmp_path / "no such", cwd=tmp_path, store=tmp_path / "none")
    assert done.returncode == 2 and "no such" in done.stderr


def test_a_store_of_the_callers_own(toy_store, tmp_path):
    """It is neither prepared nor looked for where the recipe would put it."""
    for named in ([f"--store={toy_store}"], ["--store", toy_store]):
        done = run("camvid", "train_spade", *named, "--batch_size", "17", cwd=tmp_path, source="/no such folder")
        assert done.returncode == 2 and f"must be at most 16, the training images of {toy_store}" in done.stderr


@pytest.mark.parametrize("flag", [["--source", ""], ["--source="], ["--source"], ["--store"], ["--store", "--name"]])
def test_folders_that_are_not_given(tmp_path, flag):
    done = run("camvid", "train_spade", *flag, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {flag[0].strip('=')}: nothing after it")


@pytest.mark.parametrize("flag", [["--source", "/data"], ["--source=/data"]])
def test_what_is_drawn_has_no_source(toy_store, tmp_path, flag):
    """Unless it is in the environment, where it is another data set's."""
    for store in (tmp_path / "none", toy_store):
        done = run("toy_street", "train_spade", "--niter", "1", *flag, cwd=tmp_path, store=store)
        assert done.returncode == 2 and not any(tmp_path.iterdir())
        assert done.stderr.startswith("error: --source is given, but toy_street is drawn")
    done = run("toy_street", "train_spade", "--batch_size", "17", cwd=tmp_path, store=toy_store, source="/data")
    assert done.returncode == 2 and "must be at most 16" in done.stderr


@pytest.mark.parametrize("gpus", ["two", "0", "-1", "2.5"])
def test_gpus_that_are_no_number(tmp_path, gpus):
    done = run("toy_street", "train_spade", cwd=tmp_path, gpus=gpus, store=tmp_path / "s")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not any(tmp_path.iterdir())
    assert done.stderr.startswith(f"error: gpus is {gpus}, but must be")


RECIPE = f'source "{SCRIPTS}/toy_street/settings.sh"; source "{SCRIPTS}/recipe.sh"; '
PREPARE = RECIPE + "prepare=(--height 8 --width 16 --num_train 2 --num_val 1); prepare_store"


def sourced(command, cwd):
    """As recipes run, by their own paths: none is inherited."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"store": "my store"}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_prepared_once_from_any_directory(tmp_path):
    done = sourced(PREPARE, tmp_path)
    assert done.returncode == 0 and len(open_store(tmp_path / "my store")["train"]) == 2, done.stderr
    again = sourced(PREPARE, tmp_path)
    assert again.returncode == 0 and again.stdout == again.stderr == ""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python before 3.11 always looks in the current directory first")
def test_a_package_called_datasets_where_the_caller_stands(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/__init__.py").write_text("raise RuntimeError('another package')")
    done = sourced(PREPARE, tmp_path)
    assert done.returncode == 0, done.stderr


def test_toy_street_has_no_use_for_a_source(tmp_path):
    for _ in range(2):
        done = sourced(f"export source=/data/another; {PREPARE}", tmp_path)
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
