"""Labels that were once saved as JPEG, or resized with interpolation: ids that are no classes."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from datasets.doctor import main as doctor
from datasets.sources.folder import count_ids, scattered_ids
from datasets.sources.toy_street import draw
from tests.datasets.builders import save_png
from tests.datasets.test_folder import prepare


def discs(ids, size=64):
    """Discs and squares of these ids."""
    rng = np.random.default_rng(ids)
    labels, (y, x) = np.full((size, size), ids[0], np.uint8), np.mgrid[:size, :size]
    for k in range(12):
        down, right = abs(y - rng.integers(size)), abs(x - rng.integers(size))
        radius = rng.integers(3, size // 3)
        labels[(down**2 + right**2 < radius**2) if k % 2 else np.maximum(down, right) < radius] = ids[k % len(ids)]
    return labels


def as_jpeg(labels, quality):
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(labels):
    return np.asarray(Image.fromarray(labels).resize((50, 50), Image.Resampling.BILINEAR))


SPOILED = {
    "jpeg 75": lambda labels: as_jpeg(labels, 75),
    "jpeg 95": lambda labels: as_jpeg(labels, 95),
    "resized": resized,
}


def test_parts_of_shapes_by_brute_force():
    ids = np.random.default_rng(0).integers(0, 3, (9, 11), dtype=np.uint8)
    pixels, in_shapes = np.zeros(256, int), np.zeros(256, int)
    shapes = [[(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (0, 1), (0, 2)], [(0, 0), (1, 0), (2, 0)]]
    for y, x in np.ndindex(ids.shape):
        part = False
        for shape in shapes:
            for dy, dx in shape:  # the shape with this pixel at that place of it
                places = [(y - dy + a, x - dx + b) for a, b in shape]
                inside = all(0 <= p < 9 and 0 <= q < 11 for p, q in places)
                part = part or (inside and all(ids[place] == ids[y, x] for place in places))
        pixels[ids[y, x]] += 1
        in_shapes[ids[y, x]] += part
    np.testing.assert_array_equal(count_ids(ids), [pixels, in_shapes])


@pytest.mark.parametrize("height", [32, 64])
def test_thin_and_rare_classes_are_classes(height):
    assert scattered_ids(sum(count_ids(draw(i, height, 2 * height)[1]) for i in range(8))) == []


def write(root, labels):
    rng = np.random.default_rng(0)
    for k, ids in enumerate(labels):
        save_png(root / f"labels/{k}.png", ids)
        save_png(root / f"images/{k}.png", rng.integers(0, 256, (*ids.shape, 3), dtype=np.uint8))


def run_doctor(capsys, *arguments):
    try:
        doctor([*map(str, arguments), "--workers", "1"])
        status = 0
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("ids", [(0, 10, 20), (0, 85, 170, 255), (1, 2, 3, 50)])
def test_the_doctor_says_so(tmp_path, capsys, case, ids):
    write(tmp_path, [SPOILED[case](discs(ids)) for _ in range(3)])
    status, lines = run_doctor(capsys, "--images", tmp_path / "images", "--labels", tmp_path / "labels")
    assert status == 1 and any("ids have single scattered pixels" in line and "JPEG" in line for line in lines)
    store = prepare(tmp_path, "--height", "64", "--width", "64")
    assert "note: " in capsys.readouterr().err and store.label_space.num_classes > len(ids)
    status, lines = run_doctor(capsys, tmp_path / "s")
    assert status == 1 and any("ids that are no classes (1)" in line for line in lines)


def test_sound_labels_are_ok(tmp_path, capsys):
    write(tmp_path, [discs((0, 10, 20)) for _ in range(3)])
    status, lines = run_doctor(capsys, "--images", tmp_path / "images", "--labels", tmp_path / "labels")
    assert status == 0 and lines[-1] == "ok"


def test_what_the_doctor_proposes_mends_it(tmp_path, capsys):
    """A table of the true ids with "unlisted": "ignored" gives back most of what JPEG took."""
    labels = discs((0, 85, 170, 255))
    write(tmp_path, [as_jpeg(labels, 90), as_jpeg(labels[::-1], 90)])
    classes = [{"train_id": k, "name": f"{i}", "raw_ids": [i]} for k, i in enumerate((0, 85, 170, 255))]
    (tmp_path / "t.json").write_text(json.dumps({"name": "t", "unlisted": "ignored", "classes": classes}))
    store = prepare(tmp_path, "--height", "64", "--width", "64", "--labelspace", str(tmp_path / "t.json"))
    found = {name: split.layout(i) for split in store.splits.values() for i, name in enumerate(split.names)}
    assert (found["0"] == labels // 85).mean() > 0.95 and (found["1"] == labels[::-1] // 85).mean() > 0.95
