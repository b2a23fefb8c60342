import torch

from SPADE.engine.log import RunLog


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
