"""A layout generator that is told class shares, through all stages."""

import pytest
import torch

from SBGAN import generate, load, train_finetune_end2end, train_progressive, train_progressive_seg
from SBGAN.discretize import class_proportions
from SPADE import train as train_spade
from tests.SBGAN import test_stages as stages
from tests.SBGAN.conftest import places


@pytest.fixture(scope="module")
def folder(toy_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    at = (toy_store, folder)
    more = ["--num_eval", "8", "--latent_dim", "16", "--class_shares"]
    train_progressive_seg.main([*stages.logged(at, "layout"), *stages.LAYOUT, *more])
    train_spade.main([*stages.logged(at, "spade"), *stages.SPADE])
    train_finetune_end2end.main([*stages.logged(at, "finetune"), *stages.JOINED])
    return folder


def test_all_stages_know_it(folder, tmp_path, capsys):
    model = load(folder / "weights/finetune/finetune_2.pt", device="cpu")
    assert model.layout_generator.arguments["share_components"] == 2
    name = model.label_space.names[2]
    layouts, got = model.shares({name: 0.3}, num=2, steps=2)
    assert torch.allclose(got, class_proportions(layouts, 11))
    arguments = [
        "--checkpoint",
        folder / "weights/finetune/finetune_2.pt",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    generate.main([str(word) for word in (*arguments, "--shares", f"{name}=0.3", "--num", 2, "--steps", 2)])
    assert f"got {got[:, 2].mean():.4f}" in capsys.readouterr().out


def test_what_cannot_be_told(folder, toy_store, tmp_path, capsys):
    start = ["--from", str(folder / "weights/layout/layout_6.pt")]
    for main, flags, words in (
        (train_progressive_seg.main, ["--latent_dim", "12"], "--latent_dim is 12, but must be at least 13"),
        (train_progressive_seg.main, ["--latent_dim", "16", *start], "--class_shares is given beside --from"),
        (train_progressive.main, ["--latent_dim", "16"], "--class_shares is True"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*places(toy_store, tmp_path, "told"), *stages.LAYOUT, "--class_shares", *flags])
        assert stop.value.code == 2 and words in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
