"""What the record of scores holds, with and without Inception weights."""

import hashlib
import json

import pytest
import torch

from SPADE.metrics import scores
from SPADE.metrics.scores import score_images


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 6, 3, 16, 32), generator=generator, dtype=torch.uint8)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file, and a scorer in place of Inception, which is tested on its own."""
    path = tmp_path / "inception.pth"
    path.write_bytes(b"weights")
    monkeypatch.setattr(scores, "fidelity_scores", lambda fake, real, path, batch_size, device: {"fid": 12.5})
    return path


def test_without_weights(images):
    record = score_images(*images, left_out_because="there is no network")
    assert record["fid_left_out"] == "there is no network"
    assert list(record["swd"]) == ["16", "mean"]
    assert "fid" not in record
    assert (record["fake_images"], record["real_images"], record["height"], record["width"]) == (6, 6, 16, 32)
    assert json.loads(json.dumps(record)) == record


def test_with_weights(images, weights):
    with pytest.warns(UserWarning, match="FID of 6 images against 6 is mostly bias"):
        record = score_images(*images, inception=weights)
    assert record["fid"] == 12.5
    assert "fid_left_out" not in record
    assert "mostly bias" in record["warning"]
    assert hashlib.sha256(b"weights").hexdigest()[:8] in record["protocol"]["fid"]
    assert json.loads(json.dumps(record)) == record


def test_no_warning_with_enough_images(images, weights, recwarn, monkeypatch):
    monkeypatch.setattr(scores, "sliced_wasserstein", lambda fake, real: {"mean": 0.0})
    many = images[0][:1].expand(2048, -1, -1, -1)
    assert "warning" not in score_images(many, many, inception=weights)
    assert not recwarn


def test_too_few_images_for_fid(images, weights):
    record = score_images(images[0][:3], images[1], inception=weights)
    assert "at least 4 images" in record["fid_left_out"]
    assert record["swd"]["mean"] > 0
