"""Segmentation networks: torchvision's as they are trained here, and a user's, whose classes may be others."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from datasets.errors import UserError
from datasets.packed import open_store
from datasets.reader import in_order
from SPADE.engine import distributed
from SPADE.engine.checkpoint import data_record
from SPADE.evaluation.metrics import (
    Evaluation,
    score_predictions,
    score_real_pairs,
)
from SPADE.pretrained import torchvision
from SPADE.segmenter import BatchNorm, SegmentationNetwork, open_segmenter
from tests.SPADE.engine.test_distributed import on_two


def random_ids(seed, shape, highest):
    return torch.randint(0, highest + 1, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class Red(torch.nn.Module):
    """Sees ids in the red channel, as logits of half the size or as ids."""

    def __init__(self, classes: int, ids: bool = False):
        super().__init__()
        self.classes, self.ids = classes, ids

    def forward(self, images):
        seen = images[:, 0].long() % self.classes
        if self.ids:
            return seen
        return torch.nn.functional.one_hot(seen[:, ::2, ::2], self.classes).permute(0, 3, 1, 2).float()


@pytest.fixture
def store(toy_store):
    return open_store(toy_store)


def saved(folder, *arguments, name="red.pt"):
    torch.jit.script(Red(*arguments)).save(str(folder / name))
    return SimpleNamespace(segmenter=str(folder / name), segmenter_ids=None)


def painted(layouts, shift=0):
    """Images whose red channel says the class, wrongly by `shift`."""
    return (layouts + shift).expand(-1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("ids", [False, True])
def test_what_a_users_network_sees(store, tmp_path, ids):
    evaluation = Evaluation(
        store, "cpu", 8, segmenter=open_segmenter(saved(tmp_path, 11, ids), data_record(store), "cpu")
    )
    layouts = random_ids(4, (3, 1, 16, 32), 10).repeat_interleave(2, 2).repeat_interleave(2, 3)
    right = evaluation.segmenter.predict(painted(layouts))
    assert right.dtype == torch.uint8 and right.shape == layouts.shape
    small = layouts[..., ::2, ::2]  # layouts of half the image's size are compared at the image's
    wrong = evaluation.segmenter.predict(painted(layouts, 1))
    if ids:
        assert torch.equal(right, layouts)
        found = score_predictions({"given": small, "predicted": right}, evaluation)
        assert found["miou"] == found["accuracy"] == found["fwiou"] == 1
        assert score_predictions({"given": small, "predicted": wrong}, evaluation)["miou"] == 0
        assert "red.pt (SHA-256" in found["protocol"]["miou"] and "all classes" in found["protocol"]["miou"]
    else:  # logits are resized, so that borders blur
        assert (right == layouts).float().mean() > 0.3
        assert (wrong == layouts).float().mean() < 0.1


def test_ids_of_another_table(store, tmp_path):
    """Two of its four ids are one class, one is none of the store's; the other classes are left out of the scores."""
    config = saved(tmp_path, 4)
    (tmp_path / "ids.json").write_text(json.dumps(["sky", "road", 6, None]))
    config.segmenter_ids = str(tmp_path / "ids.json")
    segmenter = open_segmenter(config, data_record(store), "cpu")
    images = torch.full((1, 3, 32, 64), 2, dtype=torch.uint8)
    assert (segmenter.predict(images) == 6).all()  # sky
    assert segmenter.predict(images + 1).unique().tolist() != [3]
    assert segmenter.scored == (0, 6) and "marking" in segmenter.left_out
    probability = torch.exp(-segmenter.surprise(images, torch.full((1, 1, 32, 64), 6, dtype=torch.uint8)))
    e = torch.tensor(1.0).exp()
    assert torch.allclose(probability, (e + 1) / (e + 2))  # of ids 0 and 2, without that of id 3
    evaluation = Evaluation(store, "cpu", 8, segmenter=segmenter)
    assert set(score_real_pairs(evaluation)["iou"]) == {"road", "sky"}
    _, layouts = in_order(store["val"], 0, 2)
    found = score_predictions({"given": torch.full_like(layouts, 1), "predicted": layouts}, evaluation)
    assert "none of the classes" in found["segmentation_left_out"]


class Dictionary(torch.nn.Module):
    def forward(self, images):
        return {"out": images.float()}


class Vector(torch.nn.Module):
    def forward(self, images):
        return images.float().mean((2, 3))


class NoNumber(torch.nn.Module):
    def forward(self, images):
        return images[:, :1].float().expand(-1, 11, -1, -1) * float("nan")


class BelowZero(torch.nn.Module):
    def forward(self, images):
        return images[:, 0].long() - 12


@pytest.mark.parametrize(
    ("network", "ids", "words"),
    [
        (NoNumber(), None, "gives what is no number (NaN), but must be one that gives logits"),
        (BelowZero(), None, "gives the id -12, but must be one of ids from 0 on"),
        (Red(10), None, "gives 10 classes, but must be one of 11; say by --segmenter_ids"),
        (Red(12, True), list(range(11)), "gives 12 classes, but must be one of 11"),
        (Vector(), None, "gives [2, 3] for 2 images, but must be one that gives logits [N,K,h,w] or ids"),
        (Dictionary(), None, "gives dict for 2 images"),
        (Red(2), ["road", "moon"], "with 'moon', but must be one of classes of toy_street"),
        (Red(2), {"0": "road", "1": 11}, "with 11, but must be one of classes"),
        (Red(2), "road", "but must be a JSON list of class names"),
        (Red(2, True), ["road", None], "give every id a class"),
    ],
)
def test_networks_that_are_refused(store, tmp_path, network, ids, words):
    torch.jit.script(network).save(str(tmp_path / "network.pt"))
    config = SimpleNamespace(segmenter=str(tmp_path / "network.pt"), segmenter_ids=None)
    if ids is not None:
        config.segmenter_ids = str(tmp_path / "ids.json")
        (tmp_path / "ids.json").write_text(json.dumps(ids))
    with pytest.raises(UserError) as refused:
        segmenter = open_segmenter(config, data_record(store), "cpu")
        segmenter.predict(torch.full((2, 3, 32, 64), 11, dtype=torch.uint8))  # a blank image did not show it
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_are_refused(store, tmp_path):
    def refusal(**flags):
        with pytest.raises(UserError) as refused:
            open_segmenter(
                SimpleNamespace(**{"segmenter": None, "segmenter_ids": None} | flags), data_record(store), "cpu"
            )
        return str(refused.value)

    assert "--segmenter is nowhere.pt, but must be a file" in refusal(segmenter="nowhere.pt")
    assert "--segmenter_ids is given" in refusal(segmenter_ids="ids.json")
    (tmp_path / "text.pt").write_text("text")
    assert "neither as TorchScript nor" in refusal(segmenter=str(tmp_path / "text.pt"))


def statistics_of_both(folder):
    """Batch norm of a half of the batch in each process, forward and backward."""
    distributed.join_processes(torch.device("cpu"))
    x, wanted = torch.load(folder / "given.pt")
    half = slice(4 * distributed.rank(), 4 * distributed.rank() + 4)
    mine, norm = x[half].requires_grad_(), BatchNorm(5, 1e-3)
    y = norm(mine)
    y.backward(wanted[half])
    found = {"y": y.detach(), "x": mine.grad, "mean": norm.running_mean, "var": norm.running_var}
    torch.save(found | {"weight": norm.weight.grad, "bias": norm.bias.grad}, folder / f"{distributed.rank()}.pt")


def test_batch_norm_of_two_processes_is_torchs_of_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    x, gradient = torch.randn(8, 5, 3, 4) * 3 + 1, torch.randn(8, 5, 3, 4)
    torch.save((x, gradient), tmp_path / "given.pt")
    assert on_two(statistics_of_both, tmp_path) == [0, 0]
    norm = nn.BatchNorm2d(5, 1e-3, momentum=0.1)
    y = norm(x.requires_grad_())
    y.backward(gradient)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    close = {"rtol": 1e-4, "atol": 1e-5}
    assert torch.allclose(torch.cat([part["y"] for part in parts]), y, **close)
    assert torch.allclose(torch.cat([part["x"] for part in parts]), x.grad, **close)
    for name in ("weight", "bias"):  # which the optimiser's step sums over the processes
        assert torch.allclose(sum(part[name] for part in parts), getattr(norm, name).grad, **close)
    for part in parts:
        assert torch.allclose(part["mean"], norm.running_mean, **close)
        assert torch.allclose(part["var"], norm.running_var, **close)


def test_it_is_torchvisions_network():
    network = SegmentationNetwork(7).eval()
    theirs = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=7
    )
    theirs.load_state_dict(network.network.state_dict(), strict=False)
    images = torch.rand(2, 3, 32, 64) * 255
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    wanted = theirs.eval()(normalise(images / 255))["out"]
    assert torch.allclose(network(images), wanted, atol=1e-4)


def test_weights_of_a_backbone(tmp_path):
    theirs = torchvision.models.mobilenet_v3_large(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = SegmentationNetwork(3)
    network.load_backbone(tmp_path / "theirs.pth")
    assert torch.equal(network.network.backbone["1"].block[0][0].weight, theirs.features[1].block[0][0].weight)
