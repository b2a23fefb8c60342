"""Samples as files: what they hold, that they depend on their seeds alone, and what a user can get wrong."""

import json
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.errors import UserError
from SBGAN import generate, load
from SBGAN.drawing.search import fits, parse_where
from SPADE.engine.checkpoint import write_sealed
from tests.disk import files_up_to
from tests.SBGAN.conftest import pixels, run, run_refused
from tests.SPADE.engine.test_distributed import on_two


@pytest.mark.usefixtures("winograd_everywhere")
def test_files_are_pairs_and_agree_with_each_other(checkpoint, untrained, tmp_path):
    run(checkpoint, tmp_path / "out", "--num", 3, "--seed", 5)
    space = untrained.store.label_space
    layouts, images = load(checkpoint, device="cpu").sample(seeds=range(5, 8))
    for i, name in enumerate(("00000005.png", "00000006.png", "00000007.png")):
        labels = pixels(tmp_path / "out/layouts" / name)
        assert labels.shape == (32, 64)  # the image's size; the layout generator draws 16 x 32
        assert (labels == layouts[i, 0].repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()).all()
        assert (pixels(tmp_path / "out/images" / name) == images[i].permute(1, 2, 0).numpy()).all()
        assert (pixels(tmp_path / "out/colours" / name) == space.colours[labels]).all()
        assert (space.remap(pixels(tmp_path / "out/raw_ids" / name).astype(np.uint8), name) == labels).all()
    about = json.loads((tmp_path / "out/about.json").read_text())
    assert list(about["checkpoints"]) == ["finetune"] and re.fullmatch("[0-9a-f]{16}", about["checkpoints"]["finetune"])
    assert about["settings"]["seed"] == 5 and len(about["classes"]) == space.num_classes


@pytest.mark.usefixtures("winograd_everywhere")
def test_averages_or_the_last_weights(untrained, tmp_path):
    networks, averages = (
        {"layout_generator": untrained.layout_generator(), "spade_generator": untrained.spade_generator()}
        for _ in range(2)
    )
    paths = {
        "last": untrained.save("finetune", "finetune_11.pt", networks),
        "average": untrained.save("finetune", "finetune_12.pt", averages),
        "both": untrained.save("finetune", "finetune_13.pt", networks, averages=averages),
    }
    for name, path in paths.items():
        run(path, tmp_path / name, "--num", 1)
    run(paths["both"], tmp_path / "both, last", "--num", 1, "--no_ema")
    image = {folder.name: (folder / "images/00000000.png").read_bytes() for folder in tmp_path.iterdir()}
    assert image["both"] == image["average"] != image["last"] == image["both, last"]


@pytest.mark.usefixtures("winograd_everywhere")
def test_a_sample_depends_on_its_seed_alone(checkpoint):
    model = load(checkpoint, device="cpu")
    layouts, images = model.sample(range(9))
    assert 15 < images.float().std() < 110  # images that show a difference
    for seeds in (range(3, 4), range(2, 7), [8, 3, 0]):
        other_layouts, other_images = model.sample(seeds)
        assert torch.equal(other_layouts, layouts[list(seeds)]) and torch.equal(other_images, images[list(seeds)])
    assert not torch.equal(layouts[0], layouts[1])


@pytest.mark.usefixtures("winograd_everywhere")
def test_the_files_do_not_depend_on_the_batch_size(checkpoint, tmp_path):
    for size in (1, 4):
        run(checkpoint, tmp_path / str(size), "--num", 6, "--batch_size", size)
    files = {path.relative_to(tmp_path / "1"): path.read_bytes() for path in (tmp_path / "1").rglob("*.png")}
    assert len(files) == 24 and all((tmp_path / "4" / name).read_bytes() == data for name, data in files.items())


@pytest.mark.usefixtures("winograd_everywhere")
def test_where_keeps_what_fits(checkpoint, untrained, tmp_path):
    layouts = load(checkpoint, device="cpu").sample_layouts(range(12))
    shares = (layouts == layouts.flatten().mode().values).float().mean((1, 2, 3))
    name = untrained.store.label_space.names[layouts.flatten().mode().values]
    share = shares.sort().values[5:7].mean().item()
    run(checkpoint, tmp_path / "more", "--num", 12, "--where", f"{name}>{share:.6f}", "--batch_size", 5)
    run(checkpoint, tmp_path / "less", "--num", 12, "--where", f" {name} < {share:.6f}")
    more, less = ({int(p.stem) for p in (tmp_path / k / "images").iterdir()} for k in ("more", "less"))
    assert more == set((shares > share).nonzero()[:, 0].tolist()) and len(more) == 6
    assert less == set(range(12)) - more


@pytest.mark.usefixtures("winograd_everywhere")
def test_at_least_and_at_most(untrained):
    names = untrained.store.label_space.names
    layouts = torch.zeros(3, 1, 4, 8, dtype=torch.uint8)
    layouts.flatten(1)[1, :8], layouts.flatten(1)[2, :9] = 1, 1  # class 1 at 0, 1/4 and 9/32 of the pixels
    kept = {">": [2], ">=": [1, 2], "<": [0], "<=": [0, 1]}
    for sign, wanted in kept.items():
        terms = parse_where(f"{names[1]}{sign}0.25", names)
        assert fits(layouts, terms, len(names)).nonzero()[:, 0].tolist() == wanted
    terms = parse_where(f"{names[1]}>0,{names[0]}>.75", names)
    assert fits(layouts, terms, len(names)).sum() == 0  # both at once


@pytest.mark.usefixtures("winograd_everywhere")
def test_names_of_classes_may_have_commas_and_signs():
    names = ["wall, partition", "wall", "door>half", "sky", "partition", "e\u0301tage"]  # the last as macOS writes it
    wanted = {
        "wall, partition>0.01": [(0, ">", 0.01)],
        "wall>0.5,partition<=0.25": [(1, ">", 0.5), (4, "<=", 0.25)],
        "sky>0.1, wall, partition >= .5 ,door>half<1": [(3, ">", 0.1), (0, ">=", 0.5), (2, "<", 1.0)],
        "\u00e9tage<1e-3,": [(5, "<", 0.001)],
        "": [],
    }
    for text, terms in wanted.items():
        assert parse_where(text, names) == terms, text
    for text, words in {
        "door, wall>0.1": "--where is door, wall",
        "wall, partition>lots": "--where is wall, partition>lots",
        "wall, partition>1.5": "--where is wall, partition>1.5",
        "sky>0.1,wall, partition": "--where is wall, partition",
        "sky>0.1 wall>0.2": "--where is sky>0.1 wall>0.2",
    }.items():
        with pytest.raises(UserError, match=words):
            parse_where(text, names)


@pytest.mark.usefixtures("winograd_everywhere")
def test_grid(checkpoint, tmp_path):
    run(checkpoint, tmp_path / "out", "--grid", "2x3", "--seed", 4)
    picture = pixels(tmp_path / "out/grid.png")
    assert picture.shape == (2 + 4 * 34, 2 + 3 * 66, 3)
    _, images = load(checkpoint, device="cpu").sample([4 + 5])
    found = picture[2 + 3 * 34 : 34 + 3 * 34, 2 + 2 * 66 : 66 + 2 * 66]
    assert (found == images[0].permute(1, 2, 0).numpy()).all()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"grid.png", "about.json"}


@pytest.fixture(scope="module")
def drawn(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "out"
    run(checkpoint, out, "--num", 2)
    return out


@pytest.mark.usefixtures("winograd_everywhere")
def test_stage_2_renders_layouts(untrained, drawn, tmp_path):
    run(untrained.spade(), tmp_path / "out", "--layouts", drawn / "layouts")
    assert len(list((tmp_path / "out/images").iterdir())) == 2


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize(
    "flags, words",
    [
        (["--num", 0], "--num is 0"),
        (["--seed", 2**63], "--seed"),
        (["--seed", -1], "--seed is -1"),
        (["--interpolate", 1], "--interpolate is 1"),
        (["--interpolate", 2, "--frames", 1], "--frames is 1"),
        (["--grid", "0x3"], "--grid is 0x3"),
        (["--grid", "2x2", "--seed", 2**63 - 3, "--num", 1], "--seed"),
        (["--interpolate", 4, "--seed", 2**63 - 3, "--num", 1], "--seed"),
        (["--grid", "2x2", "--where", "sky>0.1"], "--where is sky>0.1"),
        (["--layouts", "folder", "--truncation", 0.5], "--truncation is 0.5"),
        (["--grid", "2x2", "--interpolate", 2], "--grid and --interpolate"),
        (["--shares", "unicorn=0.1"], "--shares is unicorn"),
        (["--shares", "sky=0.9,road=0.9"], "--shares is 1.8 in sum"),
        (["--shares", "sky=0.1", "--where", "sky>0.1"], "--where is sky>0.1"),
        (["--shares", "sky=0.1", "--complete", "folder"], "--complete and --shares"),
        (["--complete", "folder", "--truncation", 0.5], "--truncation is 0.5"),
        (["--complete", "/no/such folder"], "/no/such folder"),
        (["--invert", "/no/such folder"], "/no/such folder"),
        (["--steps", -1], "--steps is -1"),
        (["--truncation", 1.5], "--truncation is 1.5"),
        (["--where", "unicorn>0.1"], "unicorn"),
        (["--where", "sky>lots"], "--where is sky>lots"),
        (["--classes", "sky>5"], "--where is sky>5"),
        (["--where", "sky>1"], "fits none"),
        (["--layouts", "/no/such folder"], "/no/such folder"),
        (["--style", "picture.png"], "no style encoder"),
    ],
)
def test_bad_flags(checkpoint, tmp_path, capsys, flags, words):
    assert words in run_refused(capsys, checkpoint, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("winograd_everywhere")
def test_nothing_is_overwritten_unasked(checkpoint, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    assert "not empty" in run_refused(capsys, checkpoint, tmp_path / "out", "--num", 1)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
    run(checkpoint, tmp_path / "out", "--num", 1, "--overwrite")
    assert (tmp_path / "out/mine.txt").read_text() == "mine" and (tmp_path / "out/images/00000000.png").is_file()
    assert "is a file" in run_refused(capsys, checkpoint, tmp_path / "out/mine.txt")
    assert "too long" in run_refused(capsys, checkpoint, tmp_path / ("n" * 300))


@pytest.mark.usefixtures("winograd_everywhere")
def test_checkpoints_that_do_not_serve(untrained, tmp_path, capsys):
    assert "draws no images" in run_refused(capsys, untrained.layout(), tmp_path / "out")
    assert "draws no layouts" in run_refused(capsys, untrained.spade(), tmp_path / "out")
    assert "image_gan" in run_refused(capsys, untrained.image(), tmp_path / "out")
    (tmp_path / "cut.pt").write_bytes(untrained.joined().read_bytes()[:2000])
    assert "cut.pt" in run_refused(capsys, tmp_path / "cut.pt", tmp_path / "out")


class Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


@pytest.mark.usefixtures("winograd_everywhere")
def test_altered_checkpoints(untrained, tmp_path, capsys, monkeypatch):
    """Whole files, as their seals say, with something else inside."""
    monkeypatch.chdir(tmp_path)
    content = torch.load(untrained.joined(), weights_only=True)
    networks = content["networks"]
    generator = networks["spade_generator"]
    state = {**generator["state"], "stem.weight": torch.zeros(1)}
    for change, words in (
        ({"data": Malicious()}, "cannot be read"),
        ({"networks": None}, "has no networks"),
        ({"data": {}}, "has no name, label_space"),
        ({"networks": {**networks, "spade_generator": {**generator, "arguments": {"depth": 3}}}}, "depth"),
        ({"networks": {**networks, "spade_generator": {**generator, "state": state}}}, "stem.weight"),
    ):
        with open("altered.pt", "wb") as file:
            torch.save({**content, **change}, file)
        altered = (tmp_path / "altered.pt").read_bytes()
        write_sealed(tmp_path / "altered.pt", 0, lambda file, data=altered: file.write(data))
        assert words in run_refused(capsys, tmp_path / "altered.pt", tmp_path / "out")
    assert not (tmp_path / "ran.txt").exists() and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("flags", [["--num", 2], ["--grid", "1x2"], ["--interpolate", 2, "--frames", 2]])
def test_a_full_disk(checkpoint, tmp_path, capsys, flags):
    with files_up_to(50):
        assert "cannot be written" in run_refused(capsys, checkpoint, tmp_path / "out", *flags)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


@pytest.mark.usefixtures("winograd_everywhere")
def test_stages_1_and_2_as_one(untrained, tmp_path):
    run(untrained.layout(), tmp_path / "out", "--spade_checkpoint", untrained.spade(), "--num", 1)
    assert (tmp_path / "out/images/00000000.png").is_file()
    about = json.loads((tmp_path / "out/about.json").read_text())
    assert about["checkpoints"].keys() == {"layout_gan", "spade"} and len(set(about["checkpoints"].values())) == 2


@pytest.fixture
def sketches(drawn, tmp_path):
    """The drawn layouts, with their left halves free in two ways."""
    labels = {path.name: pixels(path).astype(np.uint8) for path in sorted((drawn / "layouts").iterdir())}
    (tmp_path / "sketches").mkdir()
    for way, (name, ids) in zip(("index", "transparent"), labels.items(), strict=True):
        if way == "index":
            picture = Image.fromarray(np.where(np.arange(64) < 32, 255, ids).astype(np.uint8))
        else:
            colours = np.asarray(Image.open(drawn / "colours" / name).convert("RGB"))
            alpha = np.where(np.arange(64) < 32, 0, 255)[None].repeat(32, 0).astype(np.uint8)
            picture = Image.fromarray(np.dstack([colours, alpha]))
        picture.save(tmp_path / "sketches" / name)
    return tmp_path / "sketches", labels


@pytest.mark.usefixtures("winograd_everywhere")
def test_sketches_are_completed(checkpoint, sketches, tmp_path, capsys):
    folder, labels = sketches
    run(checkpoint, tmp_path / "out", "--complete", folder, "--num", 3, "--steps", 5, "--seed", 4, "--batch_size", 2)
    printed = capsys.readouterr().out
    for name, ids in labels.items():
        completed = [pixels(tmp_path / f"out/layouts/{name[:-4]}_0000000{seed}.png") for seed in (4, 5, 6)]
        assert all((c[:, 32:] == ids[:, 32:]).all() for c in completed)
        assert not (completed[0] == completed[1]).all()
        assert f"{name[:-4]}: " in printed and "of the fixed pixels met before pasting (mean of 3)" in printed
    run(checkpoint, tmp_path / "rendered", "--layouts", tmp_path / "out/layouts")
    for path in (tmp_path / "out/images").iterdir():  # pairs
        assert (pixels(path) == pixels(tmp_path / "rendered/images" / path.name)).all()


@pytest.mark.usefixtures("winograd_everywhere")
def test_layouts_are_inverted(checkpoint, drawn, tmp_path, capsys):
    run(checkpoint, tmp_path / "out", "--invert", drawn / "layouts", "--steps", 20)
    said = dict(re.findall(r"(\d{8}): (\d\.\d{3}) of the pixels come back", capsys.readouterr().out))
    for path in (drawn / "layouts").iterdir():
        same = (pixels(path) == pixels(tmp_path / "out/layouts" / path.name)).mean()
        assert same == pytest.approx(float(said[path.stem]), abs=0.0006) and same > 0.5


@pytest.mark.usefixtures("winograd_everywhere")
def test_shares_asked_for_are_counted_as_they_are(checkpoint, untrained, tmp_path, capsys):
    name = untrained.store.label_space.names[3]
    run(checkpoint, tmp_path / "out", "--shares", f"{name}=0.4", "--num", 3, "--steps", 5, "--batch_size", 2)
    got = np.array([(pixels(path) == 3).mean() for path in (tmp_path / "out/layouts").iterdir()])
    mean, missed = got.mean(), abs(got - 0.4).mean()
    wanted = f"{name}: asked for 0.4000 of the pixels, got {mean:.4f}, missed by {missed:.4f} (means)"
    assert len(got) == 3 and wanted in capsys.readouterr().out


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("more", [[], ["--where", "sky>0.001"]], ids=["all", "some"])
def test_two_processes_draw_the_files_of_one(untrained, tmp_path, more):
    common = ["--checkpoint", str(untrained.joined(style=True, name="finetune_4.pt")), "--device", "cpu"]
    common += ["--num", "14", "--batch_size", "4", "--seed", "3", *more]
    assert on_two(generate.main, [*common, "--out", str(tmp_path / "two")]) == [0, 0]
    generate.main([*common, "--out", str(tmp_path / "one")])
    files = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.png")}
    assert files == {p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*.png")}
    assert len(files) == 4 * 14 or more
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.usefixtures("winograd_everywhere")
@pytest.mark.parametrize("more", [["--grid", "2x2"], ["--interpolate", "2", "--frames", "2"]], ids=["grid", "walk"])
def test_one_of_two_processes_draws_the_picture(untrained, tmp_path, more):
    common = ["--checkpoint", str(untrained.joined(name="finetune_5.pt")), "--device", "cpu", "--out"]
    assert on_two(generate.main, [*common, str(tmp_path / "out"), *more]) == [0, 0]
    assert sorted(os.listdir(tmp_path / "out")) == ["about.json", "grid.png" if "--grid" in more else "walk.webp"]
