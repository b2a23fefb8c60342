"""What the record of scores holds, with and without a feature network."""

import hashlib
import json

import pytest
import torch

from SPADE.evaluation import features
from SPADE.evaluation import metrics as scores
from SPADE.evaluation.features import Extractor
from SPADE.evaluation.metrics import Evaluation, score


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
