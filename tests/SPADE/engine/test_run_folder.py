"""A run is one process's at a time, and has a folder of its own."""

import os
import signal
from types import SimpleNamespace

import pytest

from datasets.errors import UserError
from SPADE.engine.run_folder import RunFolder, lock
from tests.runs import processes, train


def config(folder, name="x"):
    return SimpleNamespace(weights=str(folder / "weights"), logs=str(folder / "logs"), name=name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a", "a/"])
def test_a_name_is_that_of_one_folder(tmp_path, name):
    with pytest.raises(UserError, match="^--name is .* but must be the name of one folder"):
        RunFolder(config(tmp_path, name), "spade", "spade")


def die_with_the_lock(folder, ready):
    held = lock(folder)
    ready.set()
    signal.pause()
    held.close()


def test_a_killed_process_leaves_no_lock(tmp_path):
    ready = processes.Event()
    process = processes.Process(target=die_with_the_lock, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match=f"{tmp_path} belongs to a run that is going on .process {process.pid} on "):
        lock(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    lock(tmp_path).close()


def test_of_two_runs_of_one_name_at_a_time_the_second_is_refused(toy_store, tmp_path):
    first = ["--resume_every", "1", "--evaluate_every", "0"]
    assert train("spade", toy_store, tmp_path, *first)[0] == 0
    files = sorted(path.name for path in (tmp_path / "weights/spade").iterdir())
    held = lock(tmp_path / "weights/spade")
    status, output = train("spade", toy_store, tmp_path, *first)
    assert status == 2 and output.count("error: ") == 1 and "is going on" in output
    assert sorted(path.name for path in (tmp_path / "weights/spade").iterdir()) == files
    held.close()
    assert train("spade", toy_store, tmp_path, *first)[0] == 0


def test_weights_that_cannot_be_written(toy_store, tmp_path):
    (tmp_path / "weights").write_text("in the way")
    status, output = train("spade", toy_store, tmp_path)
    assert status == 2 and f"error: {tmp_path / 'weights/spade'} cannot be written" in output
