"""Layouts that a person drew: read by ids or colours, or refused in a sentence; the style of an image."""

import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.labels import LabelSpace
from SBGAN import load
from SBGAN.drawing.files import read_layout, read_style, walk_frames
from SPADE.engine.checkpoint import data_record
from tests.SBGAN.conftest import pixels, run, run_refused

pytestmark = pytest.mark.usefixtures("winograd_everywhere")


@pytest.fixture(scope="module")
def drawn(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "out"
    run(checkpoint, out, "--num", 2)
    return out


@pytest.mark.parametrize("folder, kind", [("layouts", "train_ids"), ("raw_ids", "raw_ids"), ("colours", "train_ids")])
def test_its_own_layouts_give_its_own_images(checkpoint, drawn, tmp_path, folder, kind):
    run(checkpoint, tmp_path / "again", "--layouts", drawn / folder, "--layout_kind", kind)
    for path in (drawn / "images").iterdir():
        assert (pixels(path) == pixels(tmp_path / "again/images" / path.name)).all()
        assert (pixels(drawn / "layouts" / path.name) == pixels(tmp_path / "again/layouts" / path.name)).all()


COLOURS = {
    "shared": [(0, 0, 0), (0, 0, 0), (128, 64, 128)],  # as in Cityscapes, where seven classes are black
    "greys": [(255, 255, 255), (0, 0, 0), (90, 90, 90)],  # what programs that shrink PNGs make of grey values
    "shifted greys": [(1, 1, 1), (2, 2, 2), (0, 0, 0)],
}


@pytest.mark.parametrize("case", COLOURS)
def test_layouts_come_back_whatever_their_colours(untrained, tmp_path, case):
    table = untrained.store.label_space.to_dict()
    for entry, colour in zip(table["classes"], COLOURS[case], strict=False):
        entry["colour"] = list(colour)
    space = LabelSpace.from_dict(table)
    data = data_record(untrained.store) | {"label_space": table, "label_space_hash": space.hash}
    networks = {"layout_generator": untrained.layout_generator(), "spade_generator": untrained.spade_generator()}
    path = untrained.save("finetune", "finetune_4.pt", networks, data=data)
    run(path, tmp_path / "first", "--num", 3)
    kinds = {"layouts": ("train_ids", "colours"), "colours": ("train_ids", "colours"), "raw_ids": ("raw_ids",)}
    for folder in kinds:
        for kind in kinds[folder]:
            out = tmp_path / f"{folder} {kind}"
            run(path, out, "--layouts", tmp_path / "first" / folder, "--layout_kind", kind)
            for file in (tmp_path / "first").rglob("*.png"):
                again = out / file.relative_to(tmp_path / "first")
                assert (pixels(again) == pixels(file)).all(), (again, file)
    for file in (tmp_path / "first/layouts").iterdir():
        labels = pixels(file)
        for folder in ("layouts", "colours"):  # what is seen
            shown = np.asarray(Image.open(tmp_path / "first" / folder / file.name).convert("RGB"))
            assert (shown == np.array([c.colour for c in space.classes])[labels]).all()


def test_palettes_for_show_and_palettes_that_say_classes(untrained, tmp_path):
    """Drawing programs number the colours of a palette as they like; other files have a palette over ids."""
    space = untrained.store.label_space
    labels = np.random.default_rng(0).integers(space.num_classes, size=(32, 64)).astype(np.uint8)
    order = np.random.default_rng(1).permutation(space.num_classes).astype(np.uint8)
    cases = {
        "drawn": (order.argsort()[labels], space.colours[order], ("train_ids", "raw_ids", "colours")),
        "shown": (labels, space.colours, ("train_ids", "colours")),
        "rainbow": (labels, space.colours // 2 + 3, ("train_ids",)),
    }
    for name, (indices, palette, kinds) in cases.items():
        picture = Image.fromarray(indices.astype(np.uint8), "P")
        picture.putpalette(palette.astype(np.uint8).flatten().tolist())
        picture.save(tmp_path / f"{name}.png")
        for kind in kinds:
            assert (read_layout(tmp_path / f"{name}.png", space, kind) == labels).all(), (name, kind)


def test_style_of_an_image(untrained, tmp_path):
    path = untrained.joined(style=True, name="finetune_3.pt")
    for shade in (0, 255):
        picture = np.full((16, 32, 3), shade, np.uint8)
        picture[:8, :5] = 128
        Image.fromarray(picture).save(tmp_path / f"{shade}.png")
    run(path, tmp_path / "own", "--num", 2)
    run(path, tmp_path / "dark", "--num", 2, "--style", tmp_path / "0.png")
    run(path, tmp_path / "light", "--num", 2, "--style", tmp_path / "255.png")
    own, dark, light = (pixels(tmp_path / k / "images/00000001.png") for k in ("own", "dark", "light"))
    assert (dark != light).any() and (own != dark).any()
    model = load(path, device="cpu")
    style = read_style(tmp_path / "255.png", model)
    first = next(iter(walk_frames(model, range(1, 3), 2, style)))
    assert (first[:, 32:].permute(1, 2, 0).numpy() == light).all()


def test_layouts_that_cannot_be_read(checkpoint, drawn, tmp_path, capsys):
    faults = {
        "unknown id": (np.full((32, 64), 200, np.uint8), "id 200"),
        "another size": (np.zeros((20, 64), np.uint8), "20x64 pixels, wanted 32x64 or 16x32"),
        "unknown colour": (np.full((32, 64, 3), 7, np.uint8), "(7, 7, 7)"),
    }
    for name, (labels, words) in faults.items():
        folder = tmp_path / name
        shutil.copytree(drawn / "layouts", folder)
        Image.fromarray(labels).save(folder / "bad.png")
        error = run_refused(capsys, checkpoint, tmp_path / "out", "--layouts", folder)
        assert words in error and "bad.png" in error, error
    assert not (tmp_path / "out").exists()


def test_colours_of_no_class_on_request(checkpoint, untrained, drawn, tmp_path, capsys):
    space = untrained.store.label_space
    (tmp_path / "drawn").mkdir()
    path = sorted((drawn / "colours").iterdir())[0]
    colours = np.asarray(Image.open(path).convert("RGB")).astype(int)
    colours[4:6, :10] += np.where(colours[4:6, :10] > 127, -1, 1)
    Image.fromarray(colours.astype(np.uint8)).save(tmp_path / "drawn/a.png")
    line = run_refused(capsys, checkpoint, tmp_path / "out", "--layouts", tmp_path / "drawn")
    assert "not in the label table" in line
    run(checkpoint, tmp_path / "out", "--layouts", tmp_path / "drawn", "--nearest_class")
    assert "a.png: 20 pixels of a colour that is no class" in capsys.readouterr().out
    distances = ((colours[:, :, None] - space.colours.astype(int)) ** 2).sum(3)
    assert (pixels(tmp_path / "out/layouts/a.png") == distances.argmin(2)).all()


def test_sketches_that_say_nothing(checkpoint, drawn, tmp_path, capsys):
    for name, labels, words in (
        ("free", np.full((32, 64), 255, np.uint8), "every pixel is free"),
        ("fixed", np.zeros((32, 64), np.uint8), "no pixel is free"),
        ("small", np.zeros((8, 64), np.uint8), "8x64 pixels, wanted 32x64 or 16x32"),
        ("unknown", np.eye(32, 64, dtype=np.uint8) * 55 + 200, "id 200"),
    ):
        (tmp_path / name).mkdir()
        Image.fromarray(labels).save(tmp_path / name / "bad.png")
        error = run_refused(capsys, checkpoint, tmp_path / "out", "--complete", tmp_path / name)
        assert words in error and "bad.png" in error, error
    assert not (tmp_path / "out").exists()
