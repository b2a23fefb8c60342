"""The confusion matrix and its scores beside Cityscapes' own evaluation and a count pixel by pixel."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.errors import UserError
from datasets.labels import load_space
from datasets.packed import open_store
from datasets.reader import in_order
from SPADE.engine.checkpoint import data_record
from SPADE.evaluation.metrics import (
    Evaluation,
    confusion_matrix,
    score_real_pairs,
    score_segmentation,
    segmentation_scores,
)
from SPADE.segmenter import open_segmenter


def random_ids(seed, shape, highest):
    return torch.randint(0, highest + 1, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_confusion_pixel_by_pixel():
    reference, predicted = random_ids(0, (70, 1, 5, 6), 5), random_ids(1, (70, 1, 5, 6), 4)  # 5 is no class
    wanted = np.zeros((5, 5), np.int64)
    for row, column in zip(reference.flatten().tolist(), predicted.flatten().tolist(), strict=True):
        if row < 5:
            wanted[row, column] += 1
    found = confusion_matrix(reference, predicted, 5)
    assert found.dtype == torch.int64 and (found.numpy() == wanted).all()


def test_scores_of_cityscapes(monkeypatch):
    """Its 35 classes: those that its benchmark ignores and that this table calls unknown are left out in both."""
    cityscapes = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    space = load_space("cityscapes")
    reference, predicted = random_ids(2, (4, 1, 16, 16), 30), random_ids(3, (4, 1, 16, 16), 33)  # 31..33 do not occur
    reference[reference == 8] = 7
    scored = [i for i in range(34) if not cityscapes.id2label[i].ignoreInEval]
    assert not set(space.unknown) & set(scored) and {0, 1, 2, 3, 34} <= set(space.unknown)

    arguments = SimpleNamespace(evalLabels=list(range(35)))
    matrix = np.zeros((35, 35), np.uint64)
    np.add.at(matrix, (reference.numpy().ravel(), predicted.numpy().ravel()), 1)
    monkeypatch.setitem(cityscapes.id2label, 34, cityscapes.id2label[-1])
    wanted = {space.names[i]: cityscapes.getIouScoreForLabel(i, matrix, arguments) for i in scored}
    found = segmentation_scores(confusion_matrix(reference, predicted, 35), space.names, scored)

    occurring = [i for i in scored if matrix[i].any()]
    assert found["iou"].keys() == wanted.keys() and len(occurring) == len(scored) - 4
    for i in scored:
        name = space.names[i]
        assert found["iou"][name] == (pytest.approx(wanted[name]) if i in occurring else None)
    ious = [wanted[space.names[i]] for i in occurring]
    assert found["miou"] == pytest.approx(np.mean(ious))
    weights = matrix[occurring].sum(1).astype(float)
    assert found["fwiou"] == pytest.approx(np.average(ious, weights=weights))
    counted = np.isin(reference.numpy(), occurring)
    assert found["accuracy"] == pytest.approx((reference == predicted).numpy()[counted].mean())


def test_nothing_that_is_scored_occurs():
    assert segmentation_scores(torch.eye(3, dtype=torch.int64), ("a", "b", "c"), []) == {"iou": {}}


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
        found = score_segmentation({"given": small, "predicted": right}, {}, evaluation)
        assert found["miou"] == found["accuracy"] == found["fwiou"] == 1
        assert score_segmentation({"given": small, "predicted": wrong}, {}, evaluation)["miou"] == 0
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
    found = score_segmentation({"given": torch.full_like(layouts, 1), "predicted": layouts}, {}, evaluation)
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
