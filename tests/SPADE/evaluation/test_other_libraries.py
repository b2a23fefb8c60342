"""The same numbers from pytorch-fid and clean-fid: their formulas, and pytorch-fid's network with the same weights."""

import numpy as np
import pytest
import torch

from SPADE.evaluation.distances import feature_scores, frechet_distance
from SPADE.evaluation.features import extract_features, inception_network
from SPADE.pretrained import torchvision  # noqa: F401 (before the other libraries)


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(60, 9, generator=generator), 0.3 + 1.4 * torch.randn(50, 9, generator=generator)


def moments(features):
    return features.numpy().astype(np.float64).mean(0), np.cov(features.numpy().astype(np.float64).T)


def test_pytorch_fid(features):
    its = pytest.importorskip("pytorch_fid.fid_score").calculate_frechet_distance
    a, b = features
    assert frechet_distance(a, b) == pytest.approx(its(*moments(a), *moments(b)), rel=1e-9)


def test_clean_fid(features):
    its = pytest.importorskip("cleanfid.fid")
    a, b = features
    assert frechet_distance(a, b) == pytest.approx(its.frechet_distance(*moments(a), *moments(b)), rel=1e-9)
    # Its KID is the mean over random subsets too: of 25 of the 50, both are the same up to the choice of subsets.
    scores = feature_scores(a, b)
    np.random.seed(0)
    found = its.kernel_distance(a.numpy(), b.numpy(), num_subsets=400, max_subset_size=25)
    assert scores["kid"] == pytest.approx(found, abs=4 * scores["kid_std"] / 10)


def test_pytorch_fids_network_with_the_same_weights(tmp_path, monkeypatch):
    its = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(its, "load_state_dict_from_url", lambda *args, **kwargs: {})
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        network = its.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    torch.save(network.state_dict(), tmp_path / "random.pth")
    monkeypatch.setattr(its, "load_state_dict_from_url", lambda *args, **kwargs: network.state_dict())
    its_network = its.InceptionV3([its.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()

    # At 299 x 299, as pytorch-fid resizes other sizes in another way than TensorFlow; divided by 256, as torch-fidelity
    # maps grey levels by (x - 128) / 128 like TensorFlow, and pytorch-fid by (x - 127.5) / 127.5.
    images = torch.randint(256, (2, 3, 299, 299), generator=generator, dtype=torch.uint8)
    ours = extract_features(inception_network(tmp_path / "random.pth"), images)
    with torch.no_grad():
        theirs = its_network(images.float() / 256)[0].flatten(1)
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)
