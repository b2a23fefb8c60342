import os
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets.packed import open_store
from datasets.prepare import main
from tests.datasets.builders import build_ade_authors, build_ade_challenge

SIZE = ("--height", "32", "--width", "32", "--workers", "1")


def prepare(source, out):
    main(["ade_indoor", "--source", str(source), "--out", str(out), *SIZE])
    return open_store(out)


@pytest.mark.parametrize("top", ["", "datasets/"])
def test_the_authors_archive(tmp_path, top):
    content = build_ade_authors(tmp_path / "source", top)
    store = prepare(tmp_path / "source", tmp_path / "s")
    assert (store.height, store.width, store.label_space.num_classes) == (32, 32, 95)
    # the short edge is 286/256 of the height, and the larger of image and label says the proportions
    assert [store["train"].size(i) for i in range(3)] == [(36, 54), (72, 36), (36, 36)]
    for i, name in enumerate(store["train"].names):
        image, ids = content["train", name]
        height, width = store["train"].size(i)
        rows = [int(Fraction(2 * y + 1, 2) * ids.shape[0] / height) for y in range(height)]  # under each centre
        columns = [int(Fraction(2 * x + 1, 2) * ids.shape[1] / width) for x in range(width)]
        np.testing.assert_array_equal(store["train"].layout(i), ids[np.ix_(rows, columns)])
        assert abs(store["train"].image(i).mean() - image.mean()) < 6


def test_the_official_release(tmp_path, capsys):
    rooms = build_ade_challenge(tmp_path)
    store = prepare(tmp_path, tmp_path / "s")
    assert "differs from the authors'" in capsys.readouterr().err
    assert store["train"].names == ["ADE_train_00000000", "ADE_train_00000002", "ADE_train_00000003"]  # no street
    space = store.label_space
    pixels = np.bincount(np.stack(rooms).reshape(-1).astype(int), minlength=151)
    kept = sorted(sorted(range(1, 151), key=lambda i: (-pixels[i], i))[:94])
    assert [c.raw_ids for c in space.classes[:94]] == [(i,) for i in kept]
    assert space.names[94] == "unknown" and set(space.classes[94].raw_ids) == set(range(151)) - set(kept)
    assert space.names[0] == "thing1" and len(set(space.names)) == 95
    assert space.name != "ade_indoor"


def test_classes_that_the_release_does_not_name_have_numbers(tmp_path):
    build_ade_challenge(tmp_path)
    (tmp_path / "ADEChallengeData2016/objectInfo150.txt").write_text("Idx\tName\n\n2\nx\ty\n1\twall, room wall\n")
    names = prepare(tmp_path, tmp_path / "s").label_space.names
    assert names[:2] == ("wall", "ade_002") and names[-1] == "unknown"


def archive(tmp_path):
    build_ade_authors(tmp_path / "packed", "wrapped/")
    subprocess.run(["tar", "-czf", tmp_path / "ade.tar.gz", "-C", tmp_path / "packed", "."], check=True)
    return f"file://{tmp_path}/ade.tar.gz"


def test_the_download_script_lays_out_the_authors_archive(tmp_path):
    script = Path(datasets.__file__).parent / "download_ade.sh"
    environment = {**os.environ, "ADE_INDOOR_URL": archive(tmp_path)}
    run = ["bash", script, tmp_path / "ade"]
    subprocess.run(run, check=True, env=environment, capture_output=True)
    assert sorted(p.name for p in (tmp_path / "ade").iterdir()) == [
        "ADE15c_indoor_img", "ADE15c_indoor_lbl", "ADE15c_indoor_val_img", "ADE15c_indoor_val_lbl",
    ]  # fmt: skip
    assert len(prepare(tmp_path / "ade", tmp_path / "s")["train"]) == 3
    (tmp_path / "ade.tar.gz").unlink()  # the second call sees what is there before it fetches anything
    again = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "exists already" in again.stderr
