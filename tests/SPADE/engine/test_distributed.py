"""What the environment can say wrongly of several processes."""

import pytest

from datasets.errors import UserError
from SPADE.engine.distributed import launched_processes

WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("changed, count", [({}, 2), ({"WORLD_SIZE": "1", "RANK": None}, 1)])
def test_processes(monkeypatch, changed, count):
    assert launched_processes() == 1
    set_environment(monkeypatch, changed)
    assert launched_processes() == count


@pytest.mark.parametrize(
    "changed, complaint",
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '' in the environment, but must be a number from 1; "),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0'"),
        ({"RANK": None}, "RANK is not set in the environment"),
        ({"RANK": ""}, "RANK is ''"),
        ({"RANK": "2"}, "RANK is 2, but must be below 2"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is ''"),
        ({"MASTER_PORT": "port"}, "MASTER_PORT is 'port'"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT is 65536"),
    ],
)
def test_nonsense_is_one_sentence(monkeypatch, changed, complaint):
    set_environment(monkeypatch, changed)
    with pytest.raises(UserError, match=f"^{complaint}.*torchrun"):
        launched_processes()


def set_environment(monkeypatch, changed):
    for name, value in (WHOLE | changed).items():
        if value is not None:
            monkeypatch.setenv(name, value)
