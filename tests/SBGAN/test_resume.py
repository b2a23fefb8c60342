"""A run that was killed, however, and begun again by the same command ends as one that was not: bit for bit."""

import json
import signal

import pytest
import torch

from tests.runs import KillWhileSaving, SignalAt, curves, differences, final, train

pytestmark = pytest.mark.usefixtures("winograd_everywhere")

STAGES = ("layout", "spade", "finetune")


@pytest.fixture(scope="module")
def whole(toy_store, tmp_path_factory):
    """Folder in which every stage ran undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for stage in STAGES:
        status, output = train(stage, toy_store, folder)
        assert status == 0, output
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A new folder in which stage 3 finds the others' checkpoints."""
    (tmp_path / "weights").mkdir()
    return tmp_path


def link_stages(stage, whole, folder):
    if stage == "finetune":
        for name in ("layout", "spade"):
            (folder / "weights" / name).symlink_to(whole / "weights" / name)


def until_done(stage, store, folder, *more, before):
    """Begins the run again and again; returns the exit statuses."""
    statuses = []
    while not statuses or statuses[-1] != 0:
        status, output = train(stage, store, folder, *more, before=before)
        assert len(statuses) < 20 and status in (0, -signal.SIGKILL, 143, 130), output
        assert ("continuing from" in output) == bool(statuses), output
        statuses.append(status)
    return statuses


def check(stage, whole, folder):
    assert differences(final(stage, folder), final(stage, whole)) == []
    assert curves(stage, folder) == curves(stage, whole)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_within_every_other_step(whole, folder, toy_store, stage):
    link_stages(stage, whole, folder)
    kill = SignalAt(signal.SIGKILL, {"layout": 5, "spade": 3, "finetune": 6}[stage])
    statuses = until_done(stage, toy_store, folder, "--resume_every", 1, before=kill)
    assert len(statuses) > 2
    check(stage, whole, folder)


@pytest.mark.parametrize("stage", ["layout", "finetune"])
def test_terminated_then_interrupted(whole, folder, toy_store, stage):
    link_stages(stage, whole, folder)
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        assert train(stage, toy_store, folder, before=SignalAt(number, 1))[0] == status
    assert train(stage, toy_store, folder)[0] == 0
    check(stage, whole, folder)


def test_killed_while_saving(whole, folder, toy_store):
    status, _ = train("spade", toy_store, folder, "--resume_every", 1, before=KillWhileSaving(2))
    assert status == -signal.SIGKILL
    assert {path.name for path in (folder / "weights/spade").glob("*.pt")} == {"spade_at_8.pt"}
    assert train("spade", toy_store, folder, "--resume_every", 1)[0] == 0
    check("spade", whole, folder)
    assert not list((folder / "weights/spade").glob(".*"))


def test_a_second_interrupt_stops_at_once(folder, toy_store):
    status, output = train("spade", toy_store, folder, before=InterruptTwice())
    assert status == 130 and "Traceback" not in output
    assert not list((folder / "weights/spade").glob("*.pt"))


class InterruptTwice:
    def __call__(self):
        SignalAt(signal.SIGINT, 1)()
        SignalAt(signal.SIGINT, 1)()


def test_finished_training_says_so_and_does_nothing(whole, toy_store):
    path = whole / "weights/layout/layout_6.pt"
    before = path.stat().st_mtime_ns, curves("layout", whole)
    status, output = train("layout", toy_store, whole)
    assert status == 0 and "the training is finished" in output and "layout_6.pt" in output
    assert before == (path.stat().st_mtime_ns, curves("layout", whole))


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(whole, folder, toy_store):
    train("spade", toy_store, folder, "--resume_every", 1, before=SignalAt(signal.SIGTERM, 5))
    newest, older = folder / "weights/spade/spade_at_24.pt", folder / "weights/spade/spade_at_16.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes(data)
    torn = folder / "weights/spade/spade_at_40.pt"
    torn.write_bytes(data[: len(data) // 3])
    status, output = train("spade", toy_store, folder)
    assert status == 0 and f"continuing from {older}" in output
    assert f"not used: checkpoint {newest}" in output and f"not used: checkpoint {torn}" in output
    check("spade", whole, folder)


def test_if_all_are_damaged_nothing_is_overwritten(folder, toy_store):
    train("spade", toy_store, folder, before=SignalAt(signal.SIGTERM, 1))
    (path,) = (folder / "weights/spade").glob("*.pt")
    path.write_bytes(path.read_bytes()[:-1])
    status, output = train("spade", toy_store, folder)
    assert status == 2 and "error: no checkpoint" in output and "is whole" in output


REFUSED = {
    "layout": [("--fmap_max", 4), ("--seed", 1), ("--epochs", 2)],
    "spade": [("--ngf", 3), ("--batch_size", 4)],
    "finetune": [("--layout_grad", "full"), ("--pro_iter", 3)],
}


@pytest.mark.parametrize("stage", STAGES)
def test_other_values_are_refused_by_name(whole, toy_store, stage):
    for flag, value in REFUSED[stage]:
        status, output = train(stage, toy_store, whole, flag, value)
        assert status == 2 and f"error: {flag} is {value}" in output, output


def test_harmless_values_are_taken_and_noted(whole, folder, toy_store):
    train("spade", toy_store, folder, before=SignalAt(signal.SIGTERM, 1))
    more = ["--log_every", 2, "--keep", 1, "--evaluate_every", 1, "--deterministic"]
    status, output = train("spade", toy_store, folder, *more)
    assert status == 0 and "--log_every 2 instead of 1" in output and "--keep 1 instead of 0" in output
    assert json.loads((folder / "weights/spade/config.json").read_text())["keep"] == 1
    assert differences(final("spade", folder), final("spade", whole)) == []


def test_other_data_is_refused(whole, toy_store, tmp_path):
    from datasets import prepare

    more = ["--num_train", "17", "--num_val", "8", "--workers", "1", "--height", "32", "--width", "64"]
    prepare.main(["toy_street", "--out", str(tmp_path / "other"), *more])
    status, output = train("spade", tmp_path / "other", whole)
    assert status == 2 and "training_images" in output


def test_a_schedule_may_change_while_the_rate_is_full(whole, folder, toy_store):
    """One epoch at the full rate and one of decay, asked for after the first step, or from the start."""
    before = SignalAt(signal.SIGTERM, 1)
    train("spade", toy_store, folder, "--niter", 3, before=before)
    status, output = train("spade", toy_store, folder)
    assert status == 0 and "--niter 1 instead of 3" in output
    assert differences(final("spade", folder), final("spade", whole)) == []


def test_nor_once_it_falls(whole, toy_store):
    status, output = train("spade", toy_store, whole, "--niter", 3)
    assert status == 2 and "error: --niter is 3" in output


def test_keep_spares_what_a_later_stage_started_from(whole, folder, toy_store):
    weights = folder / "weights/spade"
    (folder / "weights/other").mkdir()
    (folder / "weights/other/origin.json").write_text('["spade/spade_1.pt"]')
    status, output = train("spade", toy_store, folder, "--niter", 3, "--save_every", 1, "--keep", 1)
    assert status == 0, output
    # the newest; the one before it, in case it is damaged; and stage 3's
    assert {path.name for path in weights.glob("*.pt")} == {"spade_4.pt", "spade_3.pt", "spade_1.pt"}


def test_stage_3_writes_down_where_it_started(whole):
    names = json.loads((whole / "weights/finetune/origin.json").read_text())
    assert set(names) == {"layout/layout_6.pt", "spade/spade_2.pt"}
    config = json.loads((whole / "weights/finetune/config.json").read_text())
    assert (config["pro_iter"], config["spade_epoch"]) == (6, 2)


class FileLimit:
    def __call__(self):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))


def test_full_disk(folder, toy_store):
    status, output = train("spade", toy_store, folder, "--resume_every", 1, before=FileLimit())
    assert status == 2 and "cannot be written" in output and "there is no earlier one" in output
    status, output = train("spade", toy_store, folder, "--on_save_error", "continue", before=FileLimit())
    assert status == 0 and "training goes on" in output
    assert not list((folder / "weights/spade").glob("*.pt"))
    assert torch.get_num_threads() == 1
