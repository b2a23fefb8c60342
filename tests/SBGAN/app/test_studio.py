"""What the page does, without a browser; whom it lets in; and what is refused before it opens."""

import io
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.errors import UserError
from SBGAN import load
from SBGAN.app import __main__ as app
from SBGAN.app.studio import FREE, Studio, redraw


@pytest.fixture(scope="module")
def studio(untrained):
    torch.manual_seed(1)
    return Studio(load(untrained.joined(name="finetune_41.pt"), device="cpu"))


def test_canvases_go_to_the_page_and_back(studio):
    canvas = np.random.default_rng(0).integers(11, size=(32, 64)).astype(np.uint8)
    canvas[3:9] = FREE
    assert (studio.decode(studio.encode(canvas)) == canvas).all()
    assert (studio.decode(None) == FREE).all()
    for value, words in (
        ({"ids": "AAAA"}, "the canvas has 3 pixels, wanted 32x64"),
        ({"ids": 5}, "wanted its pixels"),
        ("text", "wanted its pixels"),
        (studio.encode(canvas % 11 + 200), "the canvas has id"),
    ):
        with pytest.raises(UserError, match=words):
            studio.decode(value)


def test_scenes_are_those_of_the_model(studio):
    layouts, images = studio.model.sample(range(3, 5))
    canvases, text = studio.scenes(2, 3, {})
    assert text == "" and all(
        (c[::2, ::2] == layout[0].numpy()).all() for c, layout in zip(canvases, layouts, strict=True)
    )
    for canvas, seed, image in zip(canvases, (3, 4), images, strict=True):
        assert torch.equal(studio.render(canvas, seed), image)
    name = studio.space.names[2]
    canvases, text = studio.scenes(2, 3, {name: 0.3})
    got = " ".join(f"{(c == 2).mean():.3f}" for c in canvases)
    assert text == f"{name}: asked for 0.300 of the pixels, got {got}"


def test_a_line_redraws_its_pair_with_its_style(untrained, tmp_path):
    studio = Studio(load(untrained.joined(style=True, name="finetune_42.pt"), device="cpu"))
    Image.fromarray(np.full((16, 32, 3), 200, np.uint8)).save(tmp_path / "style.png")
    canvas, style = studio.scenes(1, 0, {})[0][0], studio.style_of(str(tmp_path / "style.png"))
    for line in (studio.line(canvas, 7, None), studio.line(canvas, 7, style)):
        layout, image = redraw(studio.model, line)
        assert (layout[0].numpy() == canvas).all()
        assert torch.equal(image, studio.render(canvas, 7, style if "style" in line else None))
    assert not torch.equal(studio.render(canvas, 7), studio.render(canvas, 7, style))


def test_half_a_model_does_its_half(untrained):
    layouts_alone = Studio(load(untrained.layout(), device="cpu"))
    canvases, _ = layouts_alone.scenes(2, 0, {})
    assert layouts_alone.size == (16, 32) and layouts_alone.pictures(canvases, [0, 1])[0].shape == (256, 512, 3)
    sketch = canvases[0].copy()
    sketch[:, :16] = FREE
    assert len(layouts_alone.complete(sketch, 1, 0)[0]) == 1
    images_alone = Studio(load(untrained.spade(name="spade_41.pt"), device="cpu"))
    assert images_alone.render(np.zeros((32, 64), np.uint8), 0).shape == (3, 32, 64)
    for call, words in (
        (lambda: layouts_alone.render(canvases[0], 0), "stage 1"),
        (lambda: layouts_alone.walk(0, 1, 2), "stage 1"),
        (lambda: images_alone.scenes(1, 0, {}), "stage 2"),
        (lambda: images_alone.complete(sketch, 1, 0), "stage 2"),
        (lambda: images_alone.style_of("a.png"), "no style encoder"),
        (lambda: images_alone.render(np.full((32, 64), FREE, np.uint8), 0), "2048 pixels of the canvas are free"),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_a_walk_is_an_animation(studio):
    with Image.open(studio.walk(3, 4, 2)) as animation:
        assert (animation.n_frames, animation.size) == (4, (64, 64))  # there and back, layouts above images


def test_without_a_checkpoint_there_is_something_to_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no demo has run
    path = app.find_checkpoint(app.PageSettings())
    model = load(path, device="cpu")
    assert model.data["name"] == "toy_street" and app.SMALL.stat().st_size < 10e6
    layouts, images = model.sample(range(2))
    assert layouts.unique().numel() > 5 and images.float().std() > 20
    demo = tmp_path / "weights/toy_street_finetune/finetune_1.pt"
    demo.parent.mkdir(parents=True)
    demo.touch()
    assert app.find_checkpoint(app.PageSettings()) == str(demo.relative_to(tmp_path))


def refused(capsys, *flags) -> str:
    with pytest.raises(SystemExit) as stop:
        app.main([str(flag) for flag in flags])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_what_cannot_be_opened(untrained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(app.PASSWORD, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody to ask
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port is {port}, but another program has it" in refused(capsys, "--port", port)
    assert "there is no password; set SBGAN_PASSWORD" in refused(capsys, "--address", "0.0.0.0", "--port", port)
    assert "nobody can listen there" in refused(capsys, "--address", "203.0.113.7", "--port", port)
    assert "does not exist" in refused(capsys, "--checkpoint", "gone.pt", "--port", port)
    assert "--port is 70000" in refused(capsys, "--port", 70000)
    pytest.importorskip("gradio")
    assert "image_gan" in refused(capsys, "--checkpoint", untrained.image(), "--port", port)


def test_others_need_the_password(untrained, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setenv(app.PASSWORD, "open sesame")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = app.serve(
        app.PageSettings(checkpoint=str(untrained.joined()), port=port, address="0.0.0.0", device="cpu"), wait=False
    )
    try:
        jar = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        place = f"http://127.0.0.1:{port}"
        for password, let_in in ((None, False), ("guess", False), ("open sesame", True)):
            try:
                if password:
                    jar.open(f"{place}/login", f"username=me&password={password.replace(' ', '+')}".encode())
                jar.open(f"{place}/config")
                assert let_in, password
            except urllib.error.HTTPError as error:
                assert not let_in and error.code in (400, 401), (password, error)
        waiting = [fn for fn in page.fns.values() if fn.concurrency_id == "model"]
        assert len(waiting) == 8 and {fn.concurrency_limit for fn in waiting} == {1}
    finally:
        page.close()
