"""What a user can get wrong ends in one sentence and exit status 2, before anything is written."""

import shutil

import pytest
import torch

from SBGAN import evaluate
from SBGAN import train_finetune_end2end as finetune
from SBGAN import train_progressive_seg as progressive
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SPADE import train as spade
from SPADE.engine import checkpoint
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator


def data(classes=11, name="toy_street", aspect=2, height=32):
    """What a checkpoint says of its data set."""
    table = [{"train_id": i, "name": f"c{i}", "colour": [i, 0, 0], "raw_ids": [i]} for i in range(classes)]
    return {
        "name": name,
        "label_space": {"name": name, "unlisted": "error", "classes": table},
        "label_space_hash": f"hash of {classes}",
        "height": height,
        "width": aspect * height,
        "aspect": aspect,
    }


def save_layout(path, about, rows=8, resolution=8, alpha=1.0):
    classes, aspect = len(about["label_space"]["classes"]), about["aspect"]
    networks = {
        "generator": LayoutGenerator(classes, aspect, rows, 4, fmap_max=4),
        "discriminator": ProgressiveDiscriminator(classes, aspect, rows, fmap_max=4),
    }
    save(path, "layout_gan", about, networks, resolution=resolution, alpha=alpha)


def save_spade(path, about):
    classes = len(about["label_space"]["classes"])
    networks = {
        "generator": SPADEGenerator(classes, about["height"], about["width"], 2, 5, 4),
        "discriminator": MultiscaleDiscriminator(classes + 3, 2),
    }
    save(path, "spade", about, networks)


def save(path, stage, about, networks, **more):
    records = {name: checkpoint.record(network) for name, network in networks.items()}
    checkpoint.save(path, stage, {"data": about, "networks": records, **more})


def refused(capsys, main, arguments, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for word in words:
        assert str(word) in lines[0], (word, lines[0])


def run_of(store, folder, name="x"):
    return ["--store", store, "--name", name, "--weights", folder / "weights", "--logs", folder / "logs"]


@pytest.mark.parametrize(
    "main, flags, words",
    [
        (progressive.main, ["--max_dim", "24"], ["--max_dim", "24", "power of two"]),
        (progressive.main, ["--max_dim", "64"], ["--max_dim", "64", "32"]),
        (progressive.main, ["--batch_size", "17", "--max_dim", "8"], ["--batch_size", "17", "16"]),
        (progressive.main, ["--batch_size", "0", "--max_dim", "8"], ["--batch_size", "0"]),
        (progressive.main, ["--batch_sizes", "8-4", "--max_dim", "8"], ["--batch_sizes", "8-4"]),
        (progressive.main, ["--batch_sizes", "8:2,8:4", "--max_dim", "8"], ["--batch_sizes", "8:2,8:4", "once"]),
        (progressive.main, ["--epochs_at", "6:1", "--max_dim", "8"], ["--epochs_at", "6:1"]),
        (progressive.main, ["--epochs_at", "8:0", "--max_dim", "8"], ["--epochs_at", "8:0"]),
        (progressive.main, ["--fmap_max", "0", "--max_dim", "8"], ["--fmap_max", "0"]),
        (progressive.main, ["--epochs", "many"], ["--epochs", "many"]),
        (progressive.main, ["--pixel_norm", "l1"], ["--pixel_norm", "l1", "rms"]),
        (progressive.main, ["--dim", "8"], ["--dim"]),
        (spade.main, ["--no_vgg_loss", "--batch_size", "17"], ["--batch_size", "17", "16"]),
        (spade.main, ["--no_vgg_loss", "--batch_size", "4", "--upsampling", "more"], ["--upsampling", "32x64"]),
        (spade.main, ["--no_vgg_loss", "--batch_size", "4", "--niter", "0", "--niter_decay", "0"], ["--niter"]),
        (spade.main, ["--batch_size", "4", "--vgg_weights", "/no/such file"], ["/no/such file"]),
        (spade.main, ["--no_vgg_loss", "--batch_size", "4", "--num_eval", "1"], ["--num_eval is 1"]),
        (spade.main, ["--no_vgg_loss", "--batch_size", "4", "--augment", "colour"], ["--augment is", "colour"]),
        (spade.main, ["--critic", "segmentation", "--batch_size", "4", "--augment", "cutout"], ["--augment", "patch"]),
        (progressive.main, ["--max_dim", "8", "--batch_size", "8", "--num_eval", "0"], ["--num_eval is 0"]),
        (spade.main, ["--no_vgg_loss", "--batch_size", "4", "--feature_extractor", "/no/net.pt"], ["/no/net.pt"]),
    ],
)
def test_flags(capsys, toy_store, tmp_path, main, flags, words):
    refused(capsys, main, [*run_of(toy_store, tmp_path), *flags], *words)
    assert not any(tmp_path.iterdir())


def test_no_store(capsys, tmp_path):
    refused(capsys, spade.main, [*run_of(tmp_path / "none", tmp_path), "--no_vgg_loss"], tmp_path / "none")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(capsys, toy_store, tmp_path):
    flags = ["--max_dim", "8", "--batch_size", "8", "--device", "cuda"]
    refused(capsys, progressive.main, [*run_of(toy_store, tmp_path), *flags], "--device", "cuda")


def joined(store, folder, *flags):
    names = ["--layout_name", "layout", "--spade_name", "spade", "--batch_size", "4", "--no_vgg_loss"]
    return [*run_of(store, folder, "joined"), *names, *flags]


def weights(tmp_path, layout=None, spade_data=None, **layout_more):
    save_layout(tmp_path / "weights/layout/layout_10.pt", layout or data(), **layout_more)
    save_spade(tmp_path / "weights/spade/spade_3.pt", spade_data or data())


@pytest.mark.parametrize(
    "layout, spade_data, more, words",
    [
        (data(name="camvid"), data(), {}, ["camvid", "toy_street", "layout_10.pt", "spade_3.pt"]),
        (data(classes=9), data(), {}, ["9 classes", "11"]),
        (data(aspect=1), data(), {}, ["aspect 1", "2"]),
        (data(), data(), {"rows": 64, "resolution": 64}, ["64", "32", "--max_dim"]),
        (data(), data(), {"rows": 16, "resolution": 8}, ["middle of stage 1"]),
        (data(), data(), {"alpha": 0.5}, ["middle of stage 1"]),
        (data(name="b"), data(name="b"), {}, ["--store", "toy_street", "b"]),
        (data(height=64), data(height=64), {}, ["--store", "11 classes"]),
    ],
)
def test_checkpoints_that_do_not_fit(capsys, toy_store, tmp_path, layout, spade_data, more, words):
    weights(tmp_path, layout, spade_data, **more)
    refused(capsys, finetune.main, joined(toy_store, tmp_path), *words)
    assert not (tmp_path / "weights/joined").exists()


def test_checkpoints_that_are_not_there(capsys, toy_store, tmp_path):
    refused(capsys, finetune.main, joined(toy_store, tmp_path), "layout_*.pt", tmp_path / "weights/layout")
    weights(tmp_path)
    refused(capsys, finetune.main, joined(toy_store, tmp_path, "--pro_iter", "11"), "--pro_iter", "11", "10")
    refused(capsys, finetune.main, joined(toy_store, tmp_path, "--spade_epoch", "4"), "--spade_epoch", "4", "3")
    refused(capsys, evaluate.main, ["--store", toy_store, "--name", "joined", "--weights", tmp_path], "finetune_*.pt")


def test_a_checkpoint_of_another_stage(capsys, toy_store, tmp_path):
    weights(tmp_path)
    shutil.copy(tmp_path / "weights/spade/spade_3.pt", tmp_path / "weights/layout/layout_10.pt")
    refused(capsys, finetune.main, joined(toy_store, tmp_path), "stage spade", "layout_gan")


@pytest.mark.parametrize("length", [0, 1, 1000, -1])
def test_a_truncated_checkpoint(capsys, toy_store, tmp_path, length):
    weights(tmp_path)
    path = tmp_path / "weights/layout/layout_10.pt"
    path.write_bytes(path.read_bytes()[:length])
    refused(capsys, finetune.main, joined(toy_store, tmp_path), path)


class Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_a_checkpoint_with_code_is_not_run(capsys, toy_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights(tmp_path)
    torch.save({"format": 1, "stage": "layout_gan", "networks": Malicious()}, tmp_path / "weights/layout/layout_10.pt")
    refused(capsys, finetune.main, joined(toy_store, tmp_path), "layout_10.pt")
    assert not (tmp_path / "ran.txt").exists()


def test_freezing_both_generators(capsys, toy_store, tmp_path):
    weights(tmp_path)
    flags = ["--no_train_layout", "--no_train_spade"]
    refused(capsys, finetune.main, joined(toy_store, tmp_path, *flags), "--no_train_layout", "--no_train_spade")
