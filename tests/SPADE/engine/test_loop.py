"""A run that was killed, however, and begun again ends as one that was not, bit for bit; and runs in bf16."""

import json
import random
import signal
import time

import pytest
import torch

from tests.runs import KillWhileSaving, SignalAt, curves, differences, events_of, final, train

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


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("stage", STAGES)
def test_killed_within_every_other_step(whole, folder, toy_store, stage):
    link_stages(stage, whole, folder)
    kill = SignalAt(signal.SIGKILL, {"layout": 5, "spade": 3, "finetune": 6}[stage])
    statuses = until_done(stage, toy_store, folder, "--resume_every", 1, before=kill)
    assert len(statuses) > 2
    check(stage, whole, folder)


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("stage", ["layout", "finetune"])
def test_terminated_then_interrupted(whole, folder, toy_store, stage):
    link_stages(stage, whole, folder)
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        assert train(stage, toy_store, folder, before=SignalAt(number, 1))[0] == status
    assert train(stage, toy_store, folder)[0] == 0
    check(stage, whole, folder)


@pytest.mark.usefixtures("winograd_everywhere")
def test_killed_while_saving(whole, folder, toy_store):
    status, _ = train("spade", toy_store, folder, "--resume_every", 1, before=KillWhileSaving(2))
    assert status == -signal.SIGKILL
    assert {path.name for path in (folder / "weights/spade").glob("*.pt")} == {"spade_at_8.pt"}
    assert train("spade", toy_store, folder, "--resume_every", 1)[0] == 0
    check("spade", whole, folder)
    assert not list((folder / "weights/spade").glob(".*"))


@pytest.mark.usefixtures("winograd_everywhere")
def test_a_second_interrupt_stops_at_once(folder, toy_store):
    status, output = train("spade", toy_store, folder, before=InterruptTwice())
    assert status == 130 and "Traceback" not in output
    assert not list((folder / "weights/spade").glob("*.pt"))


class InterruptTwice:
    def __call__(self):
        SignalAt(signal.SIGINT, 1)()
        SignalAt(signal.SIGINT, 1)()


@pytest.mark.usefixtures("winograd_everywhere")
def test_finished_training_says_so_and_does_nothing(whole, toy_store):
    path = whole / "weights/layout/layout_6.pt"
    before = path.stat().st_mtime_ns, curves("layout", whole)
    status, output = train("layout", toy_store, whole)
    assert status == 0 and "the training is finished" in output and "layout_6.pt" in output
    assert before == (path.stat().st_mtime_ns, curves("layout", whole))


@pytest.mark.usefixtures("winograd_everywhere")
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


@pytest.mark.usefixtures("winograd_everywhere")
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


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("stage", STAGES)
def test_other_values_are_refused_by_name(whole, toy_store, stage):
    for flag, value in REFUSED[stage]:
        status, output = train(stage, toy_store, whole, flag, value)
        assert status == 2 and f"error: {flag} is {value}" in output, output


@pytest.mark.usefixtures("winograd_everywhere")
def test_harmless_values_are_taken_and_noted(whole, folder, toy_store):
    train("spade", toy_store, folder, before=SignalAt(signal.SIGTERM, 1))
    more = ["--log_every", 2, "--keep", 1, "--evaluate_every", 1, "--deterministic"]
    status, output = train("spade", toy_store, folder, *more)
    assert status == 0 and "--log_every 2 instead of 1" in output and "--keep 1 instead of 0" in output
    assert json.loads((folder / "weights/spade/config.json").read_text())["keep"] == 1
    assert differences(final("spade", folder), final("spade", whole)) == []


@pytest.mark.usefixtures("winograd_everywhere")
def test_other_data_is_refused(whole, toy_store, tmp_path):
    from datasets import prepare

    more = ["--num_train", "17", "--num_val", "8", "--workers", "1", "--height", "32", "--width", "64"]
    prepare.main(["toy_street", "--out", str(tmp_path / "other"), *more])
    status, output = train("spade", tmp_path / "other", whole)
    assert status == 2 and "training_images" in output


@pytest.mark.usefixtures("winograd_everywhere")
def test_a_schedule_may_change_while_the_rate_is_full(whole, folder, toy_store):
    """One epoch at the full rate and one of decay, asked for after the first step, or from the start."""
    before = SignalAt(signal.SIGTERM, 1)
    train("spade", toy_store, folder, "--niter", 3, before=before)
    status, output = train("spade", toy_store, folder)
    assert status == 0 and "--niter 1 instead of 3" in output
    assert differences(final("spade", folder), final("spade", whole)) == []


@pytest.mark.usefixtures("winograd_everywhere")
def test_nor_once_it_falls(whole, toy_store):
    status, output = train("spade", toy_store, whole, "--niter", 3)
    assert status == 2 and "error: --niter is 3" in output


@pytest.mark.usefixtures("winograd_everywhere")
def test_keep_spares_what_a_later_stage_started_from(whole, folder, toy_store):
    weights = folder / "weights/spade"
    (folder / "weights/other").mkdir()
    (folder / "weights/other/origin.json").write_text('["spade/spade_1.pt"]')
    status, output = train("spade", toy_store, folder, "--niter", 3, "--save_every", 1, "--keep", 1)
    assert status == 0, output
    # the newest; the one before it, in case it is damaged; and stage 3's
    assert {path.name for path in weights.glob("*.pt")} == {"spade_4.pt", "spade_3.pt", "spade_1.pt"}


@pytest.mark.usefixtures("winograd_everywhere")
def test_stage_3_writes_down_where_it_started(whole):
    names = json.loads((whole / "weights/finetune/origin.json").read_text())
    assert set(names) == {"layout/layout_6.pt", "spade/spade_2.pt"}
    config = json.loads((whole / "weights/finetune/config.json").read_text())
    assert (config["pro_iter"], config["spade_epoch"]) == (6, 2)


class FileLimit:
    def __call__(self):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))


@pytest.mark.usefixtures("winograd_everywhere")
def test_full_disk(folder, toy_store):
    status, output = train("spade", toy_store, folder, "--resume_every", 1, before=FileLimit())
    assert status == 2 and "cannot be written" in output and "there is no earlier one" in output
    status, output = train("spade", toy_store, folder, "--on_save_error", "continue", before=FileLimit())
    assert status == 0 and "training goes on" in output
    assert not list((folder / "weights/spade").glob("*.pt"))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("every, seen", [(0, [8, 32]), (3, [8, 24, 32])])
def test_pictures_are_logged_at_the_ends_and_as_often_as_asked(toy_store, tmp_path, every, seen):
    """Of four steps on 8 images each."""
    assert train("spade", toy_store, tmp_path, "--picture_every", every)[0] == 0
    assert [event.step for event in events_of("spade", tmp_path).Images("layout_generated_real")] == seen


FIRST = {
    "layout": ["generator/wgan", "discriminator/gradient_penalty", "generator/layout_entropy"],
    "spade": ["generator/feature_matching", "discriminator/fake", "discriminator/real"],
    "finetune": ["discriminator/fake_generated", "discriminator/real_generated"],
}


@pytest.fixture(scope="module")
def runs(toy_store, tmp_path_factory):
    """Folder of each precision's runs of all stages."""
    folders = {precision: tmp_path_factory.mktemp(precision) for precision in ("fp32", "bf16")}
    for precision, folder in folders.items():
        for stage in FIRST:
            status, output = train(stage, toy_store, folder, "--precision", precision)
            assert status == 0, output
    return folders


@pytest.mark.parametrize("stage", ["layout", "spade"])  # stage 3 begins where these end, which differs by then
def test_the_first_losses_are_close(runs, stage):
    for tag in FIRST[stage]:
        half, full = (curves(stage, runs[precision])[tag][0][1] for precision in ("bf16", "fp32"))
        assert half == pytest.approx(full, rel=0.05, abs=0.01) and half != full, tag


@pytest.mark.parametrize("stage", FIRST)
def test_what_is_kept_is_float32_and_finite(runs, stage):
    for key, value in final(stage, runs["bf16"]).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert value.dtype == torch.float32 and value.isfinite().all(), key
    assert set(FIRST[stage]) <= curves(stage, runs["bf16"]).keys()


KILLS = 20  # of each stage


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["layout", "spade", "finetune"])
def test_kills_at_random_moments_leave_no_trace(toy_store, tmp_path, stage):
    whole, draw, kills, runs = tmp_path / "whole", random.Random(stage), 0, 0
    for name in ("layout", "spade", "finetune"):
        begin = time.monotonic()
        assert train(name, toy_store, whole)[0] == 0
        duration = time.monotonic() - begin
        if name == stage:
            break
    while kills < KILLS:
        folder = tmp_path / f"run {runs}"
        (folder / "weights").mkdir(parents=True)
        for name in ("layout", "spade"):
            if stage == "finetune":
                (folder / "weights" / name).symlink_to(whole / "weights" / name)
        status = None
        while status != 0:
            moment = draw.uniform(0.1, 1.0) * duration
            status, output = train(stage, toy_store, folder, "--resume_every", 1, kill_after=moment)
            assert status in (0, -signal.SIGKILL), output
            kills += status != 0
        runs += 1
        assert differences(final(stage, folder), final(stage, whole)) == []
        assert curves(stage, folder) == curves(stage, whole)
    print(f"\n{stage}: {kills} kills in {runs} runs, every one ended as the undisturbed one did, to the bit")
