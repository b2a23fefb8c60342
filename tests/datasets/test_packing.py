"""Preparation that is killed leaves nothing that looks whole, and the next one gives the bytes it would have given."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import datasets
from datasets.errors import UserError
from datasets.packed import open_store
from datasets.pairs import load_pair
from datasets.prepare import main
from datasets.sources import camvid
from tests.datasets.builders import build_camvid

ROOT = Path(datasets.__file__).parents[1]
SIZE = ("--height", "8", "--width", "16", "--workers", "1")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(6))
def test_interrupted_at_each_pair(tmp_path, monkeypatch, after):
    build_camvid(tmp_path / "source")
    arguments = ["camvid", "--source", str(tmp_path / "source"), *SIZE, "--out"]
    main([*arguments, str(tmp_path / "straight")])
    loaded = []

    def load_some(item, **rest):
        if len(loaded) == after:
            raise Killed
        loaded.append(item)
        return load_pair(item, **rest)

    monkeypatch.setattr(camvid, "load_pair", load_some)
    with pytest.raises(Killed):
        main([*arguments, str(tmp_path / "s")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source", "straight"]
    monkeypatch.undo()
    main([*arguments, str(tmp_path / "s")])
    assert_same_bytes(tmp_path / "s", tmp_path / "straight")


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_real_signals(tmp_path, number, status):
    command = [sys.executable, "-m", "datasets.prepare", "toy_street", "--num_train", "100000", "--num_val", "1",
               "--height", "32", "--width", "32", "--workers", "2", "--out", str(tmp_path / "s")]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    partial = tmp_path / ".s.partial"
    wait_for(lambda: has_pixels(partial / "train.images.u8"))
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    if number == signal.SIGKILL:  # nobody was left to remove it, but it is no store
        assert partial.is_dir()
        with pytest.raises(UserError, match="no packed store"):
            open_store(partial)
    else:
        assert not partial.exists()
        assert process.stderr.read() == b""
    process.stderr.close()
    with pytest.raises(UserError, match="no such store"):
        open_store(tmp_path / "s")
    wait_for(lambda: not is_alive(process.pid))  # the workers too


def test_ctrl_c_ends_a_program_quietly():
    slow = "from datasets import doctor; import time; doctor.examine_store = lambda path: print() or time.sleep(60); "
    command = [sys.executable, "-u", "-c", slow + "doctor.main(['store'])"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # What a shell starts in the background ignores Ctrl-C, and so do its children.
    process = subprocess.Popen(command, cwd=ROOT, **pipes, preexec_fn=lambda: signal.signal(2, signal.SIG_DFL))
    assert process.stdout.readline() == b"\n"  # it is examining
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)
    assert (process.returncode, *output) == (130, b"", b"")


def test_the_next_preparation_after_a_kill(tmp_path):
    build_camvid(tmp_path / "source")
    partial = tmp_path / ".s.partial"
    partial.mkdir()
    for leftover in ("train.images.u8", "lock", "index.json"):
        (partial / leftover).write_bytes(b"garbage of another run")
    for name in ("s", "straight"):
        main(["camvid", "--source", str(tmp_path / "source"), *SIZE, "--out", str(tmp_path / name)])
    assert not partial.exists()
    assert_same_bytes(tmp_path / "s", tmp_path / "straight")


def has_pixels(path):
    """Whether anything but the zeros of the reservation is there."""
    return path.is_file() and any(path.open("rb").read(1 << 16))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def assert_same_bytes(a, b):
    assert sorted(os.listdir(a)) == sorted(os.listdir(b))
    for name in os.listdir(a):
        assert (a / name).read_bytes() == (b / name).read_bytes()
