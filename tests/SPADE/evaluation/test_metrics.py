"""What the record of scores holds; the confusion matrix beside Cityscapes' own evaluation and a count by pixel."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.labels import load_space
from SPADE.evaluation import features
from SPADE.evaluation import metrics as scores
from SPADE.evaluation.features import Extractor
from SPADE.evaluation.metrics import (
    Evaluation,
    confusion_matrix,
    score,
    segmentation_scores,
)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 6, 3, 16, 32), generator=generator, dtype=torch.uint8)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A file, and mean colours in place of Inception, which is tested on its own."""
    path = tmp_path / "inception.pth"
    path.write_bytes(b"weights")
    features.load_network.cache_clear()
    monkeypatch.setattr(features, "inception_network", lambda path, device: lambda images: images.float().mean((2, 3)))
    return Extractor(path, standard=True)


def score_images(fake, real, network=None, real_features=None, **more):
    """Scores of two sets of images uint8 [N,3,h,w], by way of the registry."""
    sets = [{"images": fake}, {"images": real}]
    if network:
        sets = [samples | {"features": network.features(samples["images"])} for samples in sets]
    if real_features is not None:
        sets[1]["features"] = real_features
    return score(*sets, Evaluation(None, "cpu", len(fake), network=network, **more))


def test_without_a_network(images):
    record = score_images(*images, no_network="there is no network")
    assert record["fid_left_out"] == "there is no network"
    assert list(record["swd"]) == ["16", "mean"]
    assert "fid" not in record
    assert (record["fake_images"], record["real_images"], record["height"], record["width"]) == (6, 6, 16, 32)
    assert json.loads(json.dumps(record)) == record


def test_diversity_is_the_mean_distance_of_two_images(images):
    record = score_images(*images)  # 16 rows: small pixels are the pixels
    pixels = images.double().flatten(2) / 255
    for key, points in (("diversity", pixels[0]), ("diversity_of_real", pixels[1])):
        pairs = [(a - b).square().mean().sqrt() for i, a in enumerate(points) for b in points[:i]]
        assert record[key] == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-5)
    same = images[0][:1].expand(6, -1, -1, -1)
    assert score_images(same, images[1])["diversity"] == pytest.approx(0, abs=1e-6)


def test_with_the_standard_network(images, network):
    with pytest.warns(UserWarning, match="FID of 6 images against 6 is mostly bias"):
        record = score_images(*images, network)
    assert {"fid", "kid", "kid_std", "precision", "recall", "diversity"} <= set(record)
    assert "fid_left_out" not in record
    assert "mostly bias" in record["warning"]
    assert hashlib.sha256(b"weights").hexdigest()[:8] in record["protocol"]["fid"]
    assert json.loads(json.dumps(record)) == record


def test_numbers_of_another_network_are_not_called_fid(images, tmp_path):
    path = tmp_path / "mean colours.pt"
    torch.jit.script(MeanColours()).save(str(path))
    with pytest.warns(UserWarning, match="Frechet distance of 6 images"):
        record = score_images(*images, Extractor(path, standard=False))
    assert {"fd", "kd", "kd_std", "precision", "recall"} <= set(record)
    assert not {"fid", "kid"} & set(record)
    assert "not FID" in record["protocol"]["fd"]


class MeanColours(torch.nn.Module):
    def forward(self, images):
        return images.float().mean(dim=(2, 3))


def test_known_features_of_the_real_images(images, network):
    known = torch.arange(18.0).view(6, 3) ** 2
    with pytest.warns(UserWarning):
        record = score_images(*images, network, real_features=known)
        assert record["fid"] == pytest.approx(score_images(*images, network, real_features=known.clone())["fid"])
    assert record["fid"] > 1000  # against the features handed in, which are far from any colour


def test_no_warning_with_enough_images(images, network, recwarn, monkeypatch):
    monkeypatch.setattr(scores, "sliced_wasserstein", lambda fake, real: {"mean": 0.0})
    many = torch.randint(256, (2048, 3, 2, 2), dtype=torch.uint8)
    assert "warning" not in score_images(many, many, network)
    assert not recwarn


def test_too_few_images_for_fid(images, network):
    record = score_images(images[0][:3], images[1], network)
    assert "at least 4 images" in record["fid_left_out"]
    assert record["swd"]["mean"] > 0


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
