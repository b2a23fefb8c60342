"""Setting up: where packages go, what is kept of an environment's PyTorch, and what of a clone with CRLF."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def install(folder: Path, name: str, version: str, requires: str | None = None):
    """As pip would leave its metadata behind."""
    metadata = folder / f"{name}-{version}.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata.write_text("\n".join(lines + [f"Requires-Dist: {requires}"] * bool(requires)) + "\n")


def kept(folder: Path):
    """-S: without the packages of the Python that runs the tests."""
    command = [sys.executable, "-S", ROOT / "scripts/kept_torch.py"]
    return subprocess.run(command, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)


def test_no_torch(tmp_path):
    done = kept(tmp_path)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


@pytest.mark.parametrize("torch", ["2.9.0", "2.11.0+cu130", "2.13.0", "3.0.0"])
def test_a_torch_that_fits_is_kept_to_the_build(tmp_path, torch):
    install(tmp_path, "torch", torch)
    assert kept(tmp_path).stdout.split() == [f"torch=={torch}"]
    install(tmp_path, "torchvision", "0.26.0", f"torch=={torch.split('+')[0]}")
    assert kept(tmp_path).stdout.split() == [f"torch=={torch}", "torchvision==0.26.0"]


@pytest.mark.parametrize(
    "torch, wanted, found",
    [("2.8.1", "2.8.1", "PyTorch is 2.8.1, but must be 2.9"), ("2.11.0", "2.9.1", "compiled for PyTorch 2.9.1")],
)
def test_what_does_not_fit_is_refused(tmp_path, torch, wanted, found):
    install(tmp_path, "torch", torch)
    install(tmp_path, "torchvision", "0.24.1", f"torch=={wanted}")
    done = kept(tmp_path)
    assert done.returncode == 2 and found in done.stderr and len(done.stderr.splitlines()) == 1 and not done.stdout


PIP = """#!/usr/bin/env bash
case "$*" in
    *kept_torch.py) printf "%s" "$KEPT" ;;
    "-m pip install "*) echo "pip ${@:4}"; cat "${@: -1}" ;;
    *) exit 1 ;;
esac
"""


@pytest.mark.parametrize("found", ["", "torch==2.11.0+cu130\ntorchvision==0.26.0+cu130"])
def test_setup_hands_pip_what_is_kept_and_else_the_pinned_pair(tmp_path, found):
    """In an environment whose python only says what it was asked for."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(PIP)
    (tmp_path / "bin/python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "VIRTUAL_ENV": str(tmp_path), "KEPT": found}
    command = ["bash", "-euc", f'source "{ROOT}/scripts/setup.sh"; setup requirements.txt']
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pinned = (ROOT / "constraints.txt").read_text()
    assert done.stdout.endswith(found + "\n" if found else pinned) and f"-r {ROOT}/requirements.txt" in done.stdout
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and ("pip install" in again.stdout) == (not found)  # once a pair is there, nothing


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone, not an unpacked archive")
def test_a_clone_with_crlf_has_working_recipes(tmp_path):
    clone = tmp_path / "clone"
    command = ["git", "-c", "core.autocrlf=true", "clone", "--quiet", "--no-tags", str(ROOT), str(clone)]
    subprocess.run(command, check=True, capture_output=True)
    listed = subprocess.run(["git", "-C", str(clone), "ls-files"], check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if b"\0" not in (content := (clone / name).read_bytes()):
            assert b"\r\n" not in content, name
    for picture in ("docs/toy_street.png", "tests/reference/1_layout_generator.npz"):
        assert (clone / picture).read_bytes() == (ROOT / picture).read_bytes()
    done = subprocess.run(["bash", str(clone / "scripts/camvid/train_spade.sh")], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: there is no packed store")


@pytest.mark.parametrize("first, second, status", [("long", "bad", 3), ("bad", "long", 3), ("good", "good", 0)])
def test_two_side_by_side_end_together(tmp_path, first, second, status):
    program = 'trap "touch ended; exit 143" TERM; touch begun; sleep 60 & wait'
    script = f"""
        set -euo pipefail
        source "{ROOT}/scripts/setup.sh"
        good() {{ sleep 0.1; }}
        bad() {{ while [ ! -e begun ]; do sleep 0.05; done; exit 3; }}
        long() {{ bash -c '{program}'; }}
        both {first} {second}
        touch after"""
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, timeout=30, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert (tmp_path / "after").exists() == (status == 0)
    assert (tmp_path / "ended").exists() == (status != 0)  # the program in the other function had its say


@pytest.mark.parametrize(
    "active, found",
    [
        ({}, ""),
        ({"VIRTUAL_ENV": "/v"}, "/v"),
        ({"CONDA_PREFIX": "/c/envs/mine", "CONDA_DEFAULT_ENV": "mine"}, "/c/envs/mine"),
        ({"CONDA_PREFIX": "/c", "CONDA_DEFAULT_ENV": "base"}, ""),
        ({"CONDA_PREFIX": "/c", "CONDA_DEFAULT_ENV": "base", "VIRTUAL_ENV": "/v"}, "/v"),
    ],
)
def test_into_which_environment_packages_go(active, found):
    """Never into conda's base."""
    command = ["bash", "-euc", f'source "{ROOT}/scripts/setup.sh"; environment']
    done = subprocess.run(command, env={"PATH": os.environ["PATH"], **active}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, found, "")
