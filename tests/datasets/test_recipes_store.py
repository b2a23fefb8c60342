"""Recipes prepare the store by themselves, once, from wherever they are called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    done = bash(f"export source=/data/another; {PREPARE}", tmp_path)
    assert done.returncode == 0 and len(open_store(tmp_path / "my store")["train"]) == 2, done.stderr
