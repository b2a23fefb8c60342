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


@pytest.mark.parametrize("style", [False, True])
def test_onnxruntime_draws_the_same_scenes(untrained, tmp_path, style):
    path = untrained.joined(style=style, name="finetune_5.pt")
    run(path, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["latents", "style"][: 1 + style]
    assert [o.name for o in session.get_outputs()] == ["layout", "image"]
    model = load(path, device="cpu")
    for count in (1, 3):
        layouts, images = model.sample(range(count))
        inputs = {"latents": latents(range(count), 8, "cpu").numpy()}
        inputs |= {"style": latents(range(count), 8, "cpu").numpy()} if style else {}
        layout, image = session.run(None, inputs)
        assert layout.dtype == image.dtype == np.uint8
        assert (layout == layouts.numpy()).mean() > 0.9999
        difference = abs(image.astype(int) - images.numpy().astype(int))
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("style", [False, True])
def test_onnxruntime_draws_given_layouts(untrained, tmp_path, style):
    path = untrained.spade(style=style, name="spade_5.pt")
    run(path, tmp_path / "spade.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "spade.onnx"), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["layout", "style"][: 1 + style]
    assert [o.name for o in session.get_outputs()] == ["image"]
    model, random = load(path, device="cpu"), torch.Generator().manual_seed(0)
    for count, rows in ((1, 32), (3, 16), (2, 64)):  # as large as the images, coarser, finer
        layouts = torch.randint(11, (count, 1, rows, 2 * rows), dtype=torch.uint8, generator=random)
        images = model.render(layouts, range(count))
        inputs = {"layout": layouts.numpy()}
        inputs |= {"style": latents(range(count), 8, "cpu").numpy()} if style else {}
        (image,) = session.run(None, inputs)
        assert image.dtype == np.uint8
        difference = abs(image.astype(int) - images.numpy().astype(int))
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


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
