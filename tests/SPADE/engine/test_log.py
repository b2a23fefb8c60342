import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from SPADE.engine.log import RunLog, own_log, recorded_logs


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    log = RunLog(tmp_path / "file" / "logs")
    log.scalars({"a": 1.0}, 1)
    log.picture("p", torch.zeros(3, 4, 4, dtype=torch.uint8), 1)
    log.close()
    assert capsys.readouterr().out.count("training goes on") == 1


def test_a_writer_that_fails_later_costs_one_line(tmp_path, capsys):
    log = RunLog(tmp_path)
    log.writer.add_scalar = log.writer.add_image = lambda *arguments: 1 / 0
    for step in range(3):
        log.scalars({"a": 1.0, "b": 2.0}, step)
    log.picture("p", torch.zeros(3, 4, 4, dtype=torch.uint8), 1)
    assert capsys.readouterr().out.count("training goes on") == 1


def points(folder):
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars("a")]


def test_a_log_has_everything_at_once_and_goes_on_where_the_run_does(tmp_path):
    log = RunLog(tmp_path)
    for step in (8, 16, 24):
        log.scalars({"a": step / 8}, step)
    assert points(tmp_path) == [(8, 1.0), (16, 2.0), (24, 3.0)]  # of a process that is killed now
    with RunLog(tmp_path, start=16) as again:
        again.scalars({"a": 5.0}, 24)
    assert points(tmp_path) == [(8, 1.0), (16, 2.0), (24, 5.0)]


def test_pictures(tmp_path):
    picture = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    with RunLog(tmp_path) as log:
        log.picture("p", picture, 8)
    (event,) = EventAccumulator(str(tmp_path)).Reload().Images("p")
    shown = np.array(Image.open(io.BytesIO(event.encoded_image_string)))  # [5,7,3]
    assert event.step == 8 and np.array_equal(shown, picture.permute(1, 2, 0).numpy())


def test_a_run_knows_its_own_log(tmp_path):
    record, logs = tmp_path / "layout_log.json", tmp_path / "logs/x"
    own = own_log(record, logs, continued=False)
    assert own.is_dir() and own.parent == logs
    (logs / "zz put aside").mkdir()
    (logs / "99991231-235959").mkdir()  # another run's
    assert own_log(record, logs, continued=True) == own
    assert recorded_logs(tmp_path, logs) == [own]
    other = own_log(tmp_path / "other_log.json", logs, continued=False)  # within the same second
    assert other != own and other.is_dir()


@pytest.mark.parametrize("damaged", ["", '{"folder": "2025', "[]", '"2025"', "{}"])
def test_a_damaged_record_is_none(tmp_path, damaged):
    logs = tmp_path / "logs"
    (logs / "20250101-000000").mkdir(parents=True)
    (tmp_path / "layout_log.json").write_text(damaged)
    assert recorded_logs(tmp_path, logs) == [logs, logs / "20250101-000000"]
    assert own_log(tmp_path / "layout_log.json", logs, continued=True) == logs / "20250101-000000"
    assert recorded_logs(tmp_path, logs) == [logs / "20250101-000000"]


def test_a_run_that_kept_no_record_goes_on_in_its_newest_log(tmp_path):
    logs = tmp_path / "logs"
    for name in ("20250101-000000", "20250102-000000", "old_lr1e-3"):
        (logs / name).mkdir(parents=True)
    assert recorded_logs(tmp_path, logs) == [logs, *sorted(logs.iterdir())]
    assert own_log(tmp_path / "layout_log.json", logs, continued=True) == logs / "20250102-000000"
    assert json.loads((tmp_path / "layout_log.json").read_text()) == {"folder": "20250102-000000"}


def test_a_log_that_cannot_be_made_has_a_name_all_the_same(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    assert own_log(tmp_path / "layout_log.json", tmp_path / "logs/x", continued=False).parent == tmp_path / "logs/x"
