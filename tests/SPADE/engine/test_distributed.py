"""What the environment can say wrongly of several processes; two processes against one; the death of one."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from datasets.errors import UserError
from SBGAN import joint_stage
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.train_finetune_end2end import FinetuneSettings
from SPADE import losses
from SPADE.engine import distributed
from SPADE.engine.device import place
from SPADE.engine.distributed import launched_processes
from SPADE.engine.step import cut, descend
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder
from tests.runs import MAIN as MAINS
from tests.runs import SignalAt, arguments, differences, final, processes, train

WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def no_environment(monkeypatch):
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_environment")
@pytest.mark.parametrize("changed, count", [({}, 2), ({"WORLD_SIZE": "1", "RANK": None}, 1)])
def test_processes(monkeypatch, changed, count):
    assert launched_processes() == 1
    set_environment(monkeypatch, changed)
    assert launched_processes() == count


@pytest.mark.usefixtures("no_environment")
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


ROOT = Path(__file__).parents[3]
CLASSES, BATCH = 5, 8


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def environment(rank, port, world_size=2):
    return {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}


def on_two(function, *more, wait=120) -> list[int]:
    """Runs function(*more) in two processes of one group; exit statuses, None of one that had to be killed."""
    port = free_port()
    started = [processes.Process(target=_member, args=(rank, port, function, more)) for rank in range(2)]
    for process in started:
        process.start()
    end = time.monotonic() + wait
    while time.monotonic() < end and not any(process.exitcode == 1 for process in started):
        if all(process.exitcode is not None for process in started):
            break
        time.sleep(0.05)
    statuses = [process.exitcode for process in started]
    for process in started:
        if process.exitcode is None:
            process.kill()
    return statuses


def _member(rank, port, function, more):
    torch.set_num_threads(1)
    os.environ.update({key: str(value) for key, value in environment(rank, port).items()})
    function(*more)


def inputs():
    """All that a step of stage 3 draws, for the whole batch."""
    torch.manual_seed(1)
    return {
        "labels": torch.randint(CLASSES, (BATCH, 1, 32, 64)).to(torch.uint8),
        "images": torch.rand(BATCH, 3, 32, 64) * 2 - 1,
        "noise": {
            "z": torch.randn(BATCH, 6),
            "exponential": torch.rand(BATCH, CLASSES, 8, 16).add(0.1),
            "mix": torch.rand(BATCH),
            "style": None,
            "encoder": 0.1 * torch.randn(BATCH, 3),
        },
    }


def gradients(part: slice, path):
    """Saves the gradients of stage 3's and of the style encoder's losses for a part of the batch, averaged over all."""
    device = distributed.join_processes(torch.device("cpu"))
    torch.manual_seed(0)
    layout = {"aspect": 2, "max_resolution": 8, "fmap_max": 8}
    networks = joint_stage.Networks(
        LayoutGenerator(CLASSES, latent_dim=6, **layout),
        ProgressiveDiscriminator(CLASSES, **layout),
        SPADEGenerator(CLASSES, 32, 64, channels=2, hidden=4),
        MultiscaleDiscriminator(CLASSES + 3, 2),
        MultiscaleDiscriminator(3, 2),
    )
    styled = SPADEGenerator(CLASSES, 32, 64, channels=2, hidden=4, style_dim=3)
    encoder = StyleEncoder(2, 3)
    if distributed.world_size() == 2:
        part = slice(distributed.rank() * BATCH // 2, (distributed.rank() + 1) * BATCH // 2)
    labels, images, noise = (cut(value, part) for value in inputs().values())
    config = FinetuneSettings(store="", name="", layout_name="", spade_name="")
    found = {}

    def backward(name, terms, *trained):
        optimizer = torch.optim.SGD([p for network in trained for p in network.parameters()], lr=0.0)
        values = descend(terms, [(1.0, (labels, images, noise))], optimizer)
        found.update({f"{name} {key}": value.clone() for key, value in values.items()})
        for i, network in enumerate(trained):
            reached = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
            found.update({f"{name} {i} {key}": gradient.clone() for key, gradient in reached.items()})

    terms = partial(joint_stage.generator_terms, networks, config)
    backward("generators", terms, networks.layout_generator, networks.spade_generator)
    terms = partial(joint_stage.discriminator_terms, networks, config)
    discriminators = networks.layout_discriminator, networks.image_discriminator, networks.image_discriminator_2
    backward("discriminators", terms, *discriminators)
    conditional = place(MultiscaleDiscriminator(CLASSES + 3, 2), device)
    weights = losses.Weights(kl=0.05 * BATCH)

    def styled_terms(labels, images, noise):
        return losses.generator_losses(styled, conditional, labels, images, weights, encoder, noise["encoder"])

    backward("style", styled_terms, styled, encoder)
    found |= {f"buffer {key}": value for key, value in networks.spade_generator.named_buffers()}
    torch.save(found, f"{path}.{distributed.rank()}")


def test_two_processes_give_the_gradients_of_one_with_the_whole_batch(tmp_path):
    assert on_two(gradients, None, tmp_path / "two") == [0, 0]
    one = processes.Process(target=gradients, args=(slice(None), tmp_path / "one"))
    one.start()
    one.join()
    whole = torch.load(tmp_path / "one.0")
    for rank in range(2):
        part = torch.load(tmp_path / f"two.{rank}")
        assert part.keys() == whole.keys() and any("kl" in key for key in part)
        largest = {}  # of each network's gradients, since those that batch norm cancels are nothing but rounding
        for key, wanted in whole.items():
            network = key.rpartition(" ")[0]
            largest[network] = max(largest.get(network, 0), wanted.abs().max().item())
        for key, wanted in whole.items():
            assert (part[key] - wanted).abs().max() < 1e-5 * largest[key.rpartition(" ")[0]], key


def run_stage(stage, store, folder, acts=(None, None)):
    """acts: what each process does first."""
    act = acts[int(os.environ["RANK"])]
    if act:
        act()
    MAINS[stage](arguments(stage, store, folder))


def test_a_run_continues_with_another_number_of_processes(toy_store, tmp_path):
    assert on_two(run_stage, "spade", toy_store, tmp_path) == [0, 0]
    other = tmp_path / "other"
    statuses = on_two(run_stage, "spade", toy_store, other, (SignalAt(signal.SIGTERM, 1), None))
    assert statuses == [143, 143]
    assert on_two(run_stage, "spade", toy_store, other) == [0, 0]
    assert differences(final("spade", other), final("spade", tmp_path)) == []

    alone = tmp_path / "alone"
    on_two(run_stage, "spade", toy_store, alone, (None, SignalAt(signal.SIGTERM, 1)))
    status, output = train("spade", toy_store, alone)
    assert status == 0 and "continuing from" in output
    assert final("spade", alone).keys() == final("spade", tmp_path).keys()


class Hang:
    """The main thread waits for something that never comes, within a step: its n-th update."""

    def __init__(self, update: int):
        self.update = update

    def __call__(self):
        signal.signal(signal.SIGUSR1, lambda *_: threading.Event().wait())
        SignalAt(signal.SIGUSR1, self.update)()


def begin_and(rank, act, store, folder, capture):
    """A run in which one process does something bad; the other's complaints go to a file. Little patience."""
    distributed.SILENCE, distributed.PATIENCE, distributed.FIRST_STEPS = 3, 3, 1
    if int(os.environ["RANK"]) != rank:
        sys.stderr = open(capture, "w")  # noqa: SIM115 (until the process ends)
    run_stage("spade", store, folder, (act, None) if rank == 0 else (None, act))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "act, complaint",
    [
        (SignalAt(signal.SIGKILL, 2), "has not been heard of|has ended"),
        (SignalAt(signal.SIGSTOP, 2), "has not been heard of|has not answered"),
        (Hang(5), "has been in one step for"),
    ],
    ids=["dies", "stops", "hangs"],
)
def test_who_dies_or_hangs_within_a_step_ends_the_other_which_names_it(toy_store, tmp_path, rank, act, complaint):
    statuses = on_two(begin_and, rank, act, toy_store, tmp_path, tmp_path / "stderr", wait=60)
    text = (tmp_path / "stderr").read_text()
    assert statuses[1 - rank] == 1, (statuses, text)
    assert re.search(f"error: process {rank}[ ,].*({complaint})", text), text


def work_and_leave(file):
    """Process 0 writes what process 1 did not wait for."""
    distributed.join_processes(torch.device("cpu"))
    before = threading.active_count()
    with distributed.together():
        if distributed.rank() == 0:
            time.sleep(2)
            file.write_text("written")
    assert file.is_file()
    assert threading.active_count() == before  # a thread in a call of the store would abort the process at its end


def test_nobody_leaves_before_all_is_written_and_no_thread_stays_behind(tmp_path):
    assert on_two(work_and_leave, tmp_path / "results") == [0, 0]


DRIVER = """
import os, signal, sys, threading
import torch
from SPADE.train import main

updates, step = [], torch.optim.Adam.step

def step_or_act(optimizer, *arguments, **more):
    updates.append(1)
    if os.environ["RANK"] == sys.argv[1] and len(updates) == 9:  # in the fifth step
        {act}
    return step(optimizer, *arguments, **more)

torch.optim.Adam.step = step_or_act
main(sys.argv[2:])
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    "rank, act, complaint",
    [
        (0, "os.kill(os.getpid(), signal.SIGSTOP)", "has not been heard of"),
        (0, "threading.Event().wait()", "has been in one step for 4"),
        (1, "threading.Event().wait()", "has been in one step for 4"),
    ],
)
def test_the_same_under_torchrun_with_the_patience_of_a_real_run(toy_store, tmp_path, rank, act, complaint):
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(act=act))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
    done = subprocess.run(
        [*launch, str(driver), str(rank), *arguments("spade", toy_store, tmp_path), "--niter_decay", "9"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert re.search(f"error: process {rank} .*{complaint}", done.stderr), done.stderr


def report(**more):
    return {"left": "", "begun": 10, "in_step": 0.0, "longest": 1.0, "waiting": False, **more}


def test_verdicts():
    assert distributed.verdict(report(), silent=5) is None
    assert "heard" in distributed.verdict(report(), silent=30)
    assert "hangs" in distributed.verdict(report(in_step=50), silent=0)
    assert distributed.verdict(report(in_step=50), silent=0, at_least=60) is None  # something is compiled
    assert "hangs" in distributed.verdict(report(in_step=50), silent=0, at_least=30)
    assert distributed.verdict(report(in_step=50, waiting=True), silent=0) is None
    assert distributed.verdict(report(in_step=50, longest=30), silent=0) is None  # its steps are long
    assert distributed.verdict(report(in_step=50, begun=1), silent=0) is None  # the first ones may be
    assert distributed.verdict(report(left="done"), silent=300) is None
    assert "ValueError" in distributed.verdict(report(left="ValueError: x"), silent=0)
    assert dist.is_available()


def deal_out(num, path):
    distributed.join_processes(torch.device("cpu"))

    def function(numbers):
        ranks = torch.full((len(numbers),), distributed.rank())
        return {"squares": torch.tensor([i * i for i in numbers]), "rank": ranks}

    rows = distributed.shared_out(function, num)
    assert (rows is None) == (distributed.rank() == 1)
    if rows:
        torch.save(rows, path)


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("num, of_the_second", [(5, 0), (37, 16)], ids=["one batch", "three batches"])
def test_rows_are_in_order_and_everybody_has_work(tmp_path, num, of_the_second):
    assert on_two(deal_out, num, tmp_path / "rows") == [0, 0]
    rows = torch.load(tmp_path / "rows")
    assert rows["squares"].tolist() == [i * i for i in range(num)] and rows["rank"].sum() == of_the_second
    alone = distributed.shared_out(lambda numbers: {"numbers": torch.tensor(numbers)}, num)
    assert alone["numbers"].tolist() == list(range(num))
