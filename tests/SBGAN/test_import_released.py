"""Published checkpoints become ours: the numbers that the published code gives come out of the files we write."""

import json

import pytest
import torch

from SBGAN import generate, import_released, load
from SBGAN.networks import ImageGenerator
from SPADE.engine import checkpoint
from tests.disk import files_up_to
from tests.reference.cases import Case

CITYSCAPES = ["--label_space", "cityscapes", "--height", "64", "--width", "128", "--upsampling", "normal"]


def space_of(classes, folder):
    """A label table of so many classes, as a file."""
    table = [{"train_id": i, "name": f"c{i}", "colour": [i, 0, 255 - i], "raw_ids": [i]} for i in range(classes)]
    path = folder / f"{classes} classes.json"
    path.write_text(json.dumps({"name": "own", "classes": table}))
    return path


def run(out, *flags):
    import_released.main([str(word) for word in ("--out", out, *flags)])
    return out


@torch.no_grad()
def test_layout_gan(tmp_path):
    case = Case("layout_G_a")
    state = case.released_state("generator")
    classes = state["blocks.0.to_mask.weight"].shape[0]
    torch.save({"iteration": 3, "G": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "100000.pth")
    size = ["--height", "32", "--width", 32 * case.config["aspect_ratio"]]
    path = run(tmp_path / "layout_0.pt", "--layout", tmp_path / "100000.pth",
               "--label_space", space_of(classes, tmp_path), *size)  # fmt: skip
    network = load(path, device="cpu").layout_generator
    assert network.arguments["pixel_norm"] == "mean_square"
    for resolution in case.outputs("forward_res"):
        case.check(f"forward_res{resolution}", network(case.input("z"), int(resolution)).exp())


@torch.no_grad()
def test_rgb_baseline(tmp_path):
    case = Case("rgb_progressive")
    both = {"generator": case.released_state("generator"), "discriminator": case.released_state("discriminator")}
    torch.save(both, tmp_path / "5.pth")
    size = ["--height", "32", "--width", 32 * case.config["aspect_ratio"]]
    path = run(tmp_path / "image_0.pt", "--layout", tmp_path / "5.pth", "--label_space", "cityscapes", *size)
    content = checkpoint.load(path, "image_gan")
    assert set(content["networks"]) == {"generator", "discriminator"}
    network = checkpoint.rebuild(ImageGenerator, content["networks"]["generator"])
    case.check("G_forward", network(case.input("z"), case.config["resolution"]))


def test_the_joined_model_is_generated_from(tmp_path):
    case = Case("e2e_generator_losses")
    networks = {"layout": ("layout_generator", "layout_discriminator"), "G": ("spade_generator",),
                "D": ("image_discriminator",), "D2": ("image_discriminator_2",)}  # fmt: skip
    for name, (first, *others) in networks.items():
        state = case.released_state(first)
        torch.save({"a": state, "b": case.released_state(others[0])} if others else state, tmp_path / f"{name}.pth")
    files = ["--layout", tmp_path / "layout.pth", "--generator", tmp_path / "G.pth"]
    files += ["--discriminator", tmp_path / "D.pth", "--discriminator_2", tmp_path / "D2.pth"]
    path = run(tmp_path / "weights/finetune_0.pt", *files, *CITYSCAPES)
    names = {"layout_generator", "layout_discriminator", "spade_generator", "image_discriminator",
             "image_discriminator_2"}  # fmt: skip
    assert set(checkpoint.load(path, "finetune")["networks"]) == names
    assert checkpoint.load(path, "finetune")["origin"] == {}  # the published files are no checkpoints of stages 1 and 2
    generate.main(["--checkpoint", str(path), "--out", str(tmp_path / "out"), "--num", "1", "--device", "cpu"])
    assert (tmp_path / "out/images/00000000.png").is_file()


@torch.no_grad()
def test_spade_with_the_style_encoder(tmp_path):
    case, encoder_case = Case("spade_G_vae"), Case("encoder_resize")
    state = case.released_state("generator")
    torch.save(state, tmp_path / "10_net_G.pth")
    torch.save(encoder_case.released_state("encoder"), tmp_path / "10_net_E.pth")
    path = run(
        tmp_path / "spade_0.pt", "--generator", tmp_path / "10_net_G.pth", "--encoder", tmp_path / "10_net_E.pth",
        "--label_space", space_of(7, tmp_path), "--height", 64, "--width", 64, "--upsampling", "normal",
    )  # fmt: skip
    model = load(path, device="cpu")
    case.check("eval_image", model.spade_generator.eval()(case.input("seg"), style=case.input("z")))
    encoder_case.check("eval_mu", model.encoder.eval()(encoder_case.input("image"))[0])


@pytest.fixture(scope="module")
def spade_state():
    return Case("spade_G_a").released_state("generator")  # 7 classes


@pytest.fixture
def spade_flags(spade_state, tmp_path):
    torch.save(spade_state, tmp_path / "G.pth")
    sized = ["--height", 32, "--width", 64, "--upsampling", "normal"]
    return ["--generator", tmp_path / "G.pth", *sized, "--label_space", space_of(7, tmp_path)]


def test_instance_edges_are_dropped_as_if_there_were_none(spade_state, spade_flags, tmp_path):
    seen_by = ("mlp_shared.0.weight", "fc.weight")
    wider = {  # an 8th class that is never there: what it would add must not matter
        key: torch.cat([t, torch.full_like(t[:, :1], 9.0)], 1) if key.endswith(seen_by) else t
        for key, t in spade_state.items()
    }
    torch.save(wider, tmp_path / "wider.pth")
    one = run(tmp_path / "one.pt", *spade_flags)
    other = run(tmp_path / "other.pt", *spade_flags, "--generator", tmp_path / "wider.pth", "--without_edges")
    layout = torch.randint(7, (1, 1, 32, 64), dtype=torch.uint8)
    images = [load(path, device="cpu").render(layout, [0]) for path in (one, other)]
    assert torch.equal(*images)


def refused(capsys, out, *flags):
    with pytest.raises(SystemExit) as stop:
        run(out, *flags)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ")
    return line


def test_what_does_not_fit_is_named_key_by_key(spade_state, spade_flags, tmp_path, capsys):
    state = dict(spade_state)
    del state["up_0.conv_0.bias"]
    state["up_1.conv_1.weight_orig"] = state["up_1.conv_1.weight_orig"][:, :1]
    state["attention.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "odd.pth")
    out = tmp_path / "x.pt"
    line = refused(capsys, out, *spade_flags, "--generator", tmp_path / "odd.pth")
    for words in ("up_0.conv_0.bias is missing", "up_1.conv_1.weight_orig has shape", "attention.weight is unknown"):
        assert words in line
    assert "no released layout GAN" in refused(capsys, out, "--layout", tmp_path / "G.pth", *CITYSCAPES)
    line = refused(capsys, out, *spade_flags, "--label_space", space_of(6, tmp_path))
    assert "7 classes" in line and "has 6" in line and "--without_edges" in line
    assert "--label_space is missing" in refused(capsys, out, "--generator", tmp_path / "G.pth")
    assert not out.exists()


def save_network(case, name, folder):
    path = folder / f"{case}.{name}.pth"
    torch.save(Case(case).released_state(name), path)
    return path


def test_sizes_that_do_not_fit(spade_flags, tmp_path, capsys):
    out, joined = tmp_path / "x.pt", "e2e_generator_losses"
    for size in ((0, 0), (-64, -128)):
        line = refused(capsys, out, *spade_flags, f"--height={size[0]}", f"--width={size[1]}")
        assert f"--height is {size[0]}, but must be at least 1" in line
    for size in ((64, 100), (128, 64)):
        line = refused(capsys, out, *spade_flags, "--height", size[0], "--width", size[1])
        assert f"--height and --width is {size[0]}x{size[1]}" in line
    layout = ["--layout", save_network(joined, "layout_generator", tmp_path), "--label_space", "cityscapes"]
    assert "at least the 16 rows" in refused(capsys, out, *layout, "--height", 8, "--width", 16)
    assert "of aspect 2, but must be of aspect 1" in refused(capsys, out, *layout, "--height", 64, "--width", 64)
    styled = ["--generator", save_network("spade_G_vae", "generator", tmp_path)]  # trained at 64x64
    line = refused(capsys, out, *spade_flags, *styled, "--height", 64, "--width", 128)
    assert "--height and --width is 64x128" in line
    assert not out.exists()


def test_networks_that_do_not_belong_together(spade_flags, tmp_path, capsys):
    out, joined = tmp_path / "x.pt", "e2e_generator_losses"
    conditional = save_network("image_D_cond", "discriminator", tmp_path)  # of 7 classes, as published by NVIDIA
    other = save_network(joined, "image_discriminator", tmp_path)  # of 35
    encoder = save_network("encoder_resize", "encoder", tmp_path)
    line = refused(capsys, out, *spade_flags, "--discriminator", other)
    assert f"--discriminator is {other}, of in_channels 38, but must be of in_channels 10" in line
    assert "of in_channels 3" in refused(capsys, out, *spade_flags, "--discriminator_2", conditional)
    assert "of style_dim 256" in refused(capsys, out, *spade_flags, "--encoder", encoder)
    line = refused(capsys, out, "--layout", tmp_path / "G.pth", "--encoder", encoder, *CITYSCAPES)
    assert "--encoder" in line and "beside --generator" in line
    assert not out.exists()
    run(out, *spade_flags, "--discriminator", conditional, "--d_last_stride", 1)
    assert checkpoint.load(out, "spade")["networks"]["discriminator"]["arguments"]["strides"] == (2, 2, 2, 1)


def test_files_of_parallel_modules(tmp_path):
    """Names begin with "module." where a network was saved within DataParallel."""
    joined, parallel, plain = "e2e_generator_losses", [], []
    names = {"generator": "spade_generator", "discriminator": "image_discriminator",
             "discriminator_2": "image_discriminator_2"}  # fmt: skip
    for flag, name in names.items():
        plain += [f"--{flag}", save_network(joined, name, tmp_path)]
        parallel += [f"--{flag}", tmp_path / f"{name}.pth"]
        state = Case(joined).released_state(name)
        torch.save({f"module.{key}": tensor for key, tensor in state.items()}, parallel[-1])
    networks = [checkpoint.load(run(tmp_path / f"{i}.pt", *flags, *CITYSCAPES), "spade")["networks"]
                for i, flags in enumerate((parallel, plain))]  # fmt: skip
    assert set(networks[0]) == {"generator", "discriminator", "discriminator_2"}
    for name, record in networks[0].items():
        assert record["arguments"] == networks[1][name]["arguments"]
        assert all(torch.equal(t, networks[1][name]["state"][key]) for key, t in record["state"].items())


def test_upsampling_is_of_the_tensors_or_the_table_or_asked_for(tmp_path, capsys):
    def imported(case, *flags):
        path = save_network(case, "generator", tmp_path)
        path = run(tmp_path / "x.pt", "--generator", path, "--overwrite", *flags)
        return checkpoint.load(path, "spade")["networks"]["generator"]["arguments"]["upsamplings"]

    table = json.loads(space_of(7, tmp_path).read_text())
    spaces = {}
    for name in ("own", "cityscapes", "ade_indoor"):
        spaces[name] = tmp_path / f"{name}.json"
        spaces[name].write_text(json.dumps(table | {"name": name}))
    square = ["--height", 128, "--width", 128]
    assert imported("spade_G_a", *square, "--label_space", spaces["cityscapes"]) == 6
    assert imported("spade_G_a", *square, "--label_space", spaces["ade_indoor"]) == 5
    assert imported("spade_G_a", *square, "--label_space", spaces["cityscapes"], "--upsampling", "normal") == 5
    assert imported("spade_G_e", *square, "--label_space", spaces["own"]) == 7
    assert imported("spade_G_vae", "--height", 64, "--width", 64, "--label_space", spaces["cityscapes"]) == 5
    assert imported("spade_G_vae", *square, "--label_space", spaces["ade_indoor"]) == 6  # 4 places of a style's start
    out, own = tmp_path / "y.pt", ["--label_space", spaces["own"]]
    of_a, of_e, of_style = (
        ["--generator", save_network(f"spade_G_{x}", "generator", tmp_path)] for x in ("a", "e", "vae")
    )
    assert "--upsampling is missing" in refused(capsys, out, *of_a, *square, *own)
    assert "--upsampling is most, but must be normal or more" in refused(
        capsys, out, *of_a, *square, *own, "--upsampling", "most"
    )
    assert "--upsampling is more, but must be most" in refused(
        capsys, out, *of_e, *square, *own, "--upsampling", "more"
    )
    assert "--upsampling is normal, but must be more" in refused(
        capsys, out, *of_style, *square, *own, "--upsampling", "normal"
    )
    assert not out.exists()


def test_the_last_stride_is_of_the_other_files_or_asked_for(spade_flags, tmp_path, capsys):
    out, joined = tmp_path / "x.pt", "e2e_generator_losses"
    conditional = save_network("image_D_cond", "discriminator", tmp_path)  # 4 layers, of SB-GAN's or of NVIDIA's code
    line = refused(capsys, out, *spade_flags, "--discriminator", conditional)
    assert "--d_last_stride is missing" in line and "4 layers" in line
    second = ["--discriminator_2", save_network(joined, "image_discriminator_2", tmp_path)]
    for flags, strides in ((second, (2, 2, 2, 2)), (["--d_last_stride", 1], (2, 2, 2, 1))):
        run(out, *spade_flags, "--discriminator", conditional, *flags, "--overwrite")
        networks = checkpoint.load(out, "spade")["networks"]
        assert networks["discriminator"]["arguments"]["strides"] == strides


@torch.no_grad()
def test_instance_edges_beside_a_style(tmp_path):
    """No channel of the style goes with them."""
    case = Case("spade_G_vae")
    state = case.released_state("generator")
    wider = {
        key: torch.cat([t, torch.full_like(t[:, :1], 9.0)], 1) if key.endswith("mlp_shared.0.weight") else t
        for key, t in state.items()
    }
    torch.save(wider, tmp_path / "wider.pth")
    size = ["--label_space", space_of(7, tmp_path), "--height", 64, "--width", 64]
    path = run(tmp_path / "x.pt", "--generator", tmp_path / "wider.pth", "--without_edges", *size)
    image = load(path, device="cpu").spade_generator.eval()(case.input("seg"), style=case.input("z"))
    case.check("eval_image", image)


def test_a_full_disk(spade_flags, tmp_path, capsys):
    with files_up_to(100_000):
        assert "x.pt cannot be written" in refused(capsys, tmp_path / "x.pt", *spade_flags)
    assert {path.name for path in tmp_path.iterdir()} == {"G.pth", "7 classes.json"}


class Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_code_in_a_file_is_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"blocks.0.fc1.weight": Malicious()}, tmp_path / "bad.pth")
    assert "bad.pth" in refused(capsys, tmp_path / "x.pt", "--layout", "bad.pth", *CITYSCAPES)
    assert not (tmp_path / "ran.txt").exists()


def test_nothing_is_overwritten_unasked(spade_flags, tmp_path, capsys):
    (tmp_path / "mine.pt").write_text("mine")
    assert "--overwrite" in refused(capsys, tmp_path / "mine.pt", *spade_flags)
    assert (tmp_path / "mine.pt").read_text() == "mine"
    run(tmp_path / "mine.pt", *spade_flags, "--overwrite")
    assert checkpoint.load(tmp_path / "mine.pt", "spade")
