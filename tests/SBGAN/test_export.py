"""The exported file gives in onnxruntime what the networks give here, for other batch sizes too."""

import numpy as np
import pytest
import torch

from SBGAN import export, load
from SPADE.engine.images import latents
from tests.disk import files_up_to

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(path, out, *flags):
    export.main(["--checkpoint", str(path), "--out", str(out), *map(str, flags)])


def exported(path, out):
    """The session of the exported file, and the names of what it takes and gives."""
    run(path, out)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    return session, [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]


def assert_same_image(found, wanted):
    """Up to a level in a pixel of a hundred."""
    assert found.dtype == np.uint8
    difference = abs(found.astype(int) - wanted.numpy().astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@pytest.mark.parametrize("style", [False, True])
def test_onnxruntime_draws_the_same_scenes(untrained, tmp_path, style):
    path = untrained.joined(style=style, name="finetune_5.pt")
    session, takes, gives = exported(path, tmp_path / "model.onnx")
    assert takes == ["latents", "style"][: 1 + style] and gives == ["layout", "image"]
    model = load(path, device="cpu")
    for count in (1, 3):
        layouts, images = model.sample(range(count))
        inputs = {"latents": latents(range(count), 8, "cpu").numpy()}
        inputs |= {"style": latents(range(count), 8, "cpu").numpy()} if style else {}
        layout, image = session.run(None, inputs)
        assert layout.dtype == np.uint8 and (layout == layouts.numpy()).mean() > 0.9999
        assert_same_image(image, images)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("style", [False, True])
def test_onnxruntime_draws_given_layouts(untrained, tmp_path, style):
    path = untrained.spade(style=style, name="spade_5.pt")
    session, takes, gives = exported(path, tmp_path / "spade.onnx")
    assert takes == ["layout", "style"][: 1 + style] and gives == ["image"]
    model, random = load(path, device="cpu"), torch.Generator().manual_seed(0)
    for count, rows in ((1, 32), (3, 16), (2, 64)):  # as large as the images, coarser, finer
        layouts = torch.randint(11, (count, 1, rows, 2 * rows), dtype=torch.uint8, generator=random)
        images = model.render(layouts, range(count))
        inputs = {"layout": layouts.numpy()}
        inputs |= {"style": latents(range(count), 8, "cpu").numpy()} if style else {}
        (image,) = session.run(None, inputs)
        assert_same_image(image, images)


def test_what_cannot_be_exported(untrained, tmp_path, capsys):
    (tmp_path / "mine.onnx").write_text("mine")
    for path, out, words in (
        (untrained.layout(), tmp_path / "a.onnx", "half of a model"),
        (untrained.joined(), tmp_path / "mine.onnx", "--overwrite"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(path, out)
        assert stop.value.code == 2 and words in capsys.readouterr().err
    assert (tmp_path / "mine.onnx").read_text() == "mine" and not (tmp_path / "a.onnx").exists()


def test_a_full_disk(untrained, tmp_path, capsys):
    path = untrained.joined()
    with files_up_to(10_000), pytest.raises(SystemExit) as stop:
        run(path, tmp_path / "a.onnx")
    assert stop.value.code == 2 and "a.onnx cannot be written" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["joined", "layout", "spade"])
def test_a_small_checkpoint_draws_nearly_the_same(untrained, tmp_path, kind):
    path = getattr(untrained, kind)()
    run(path, tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 0.75 * path.stat().st_size
    whole, small = load(path, device="cpu"), load(tmp_path / "small.pt", device="cpu")
    layouts = torch.randint(11, (2, 1, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if kind != "spade":
        layouts = whole.sample_layouts(range(2))
        assert (small.sample_layouts(range(2)) == layouts).float().mean() > 0.98
    if kind != "layout":
        difference = whole.render(layouts, range(2)).float() - small.render(layouts, range(2)).float()
        assert difference.abs().mean() < 1


def test_a_small_checkpoint_of_averages_is_the_averages(untrained, tmp_path):
    networks, averages = ({"generator": untrained.layout_generator()} for _ in range(2))
    path = untrained.save("layout_gan", "layout_7.pt", networks, averages, resolution=16, alpha=1.0)
    run(path, tmp_path / "small.pt")
    state = load(tmp_path / "small.pt", device="cpu").layout_generator.state_dict()
    for name, value in averages["generator"].state_dict().items():
        assert torch.equal(state[name], value.half().float())
