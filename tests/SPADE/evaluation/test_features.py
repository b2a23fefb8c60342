"""Feature networks, a user's own too; FID, KID, precision and recall against three other libraries."""

import numpy as np
import pytest
import torch

from datasets.errors import UserError
from SPADE.evaluation.distances import feature_scores, frechet_distance
from SPADE.evaluation.features import Extractor, extract_features, inception_network
from SPADE.pretrained import torchvision  # noqa: F401 (before torch-fidelity)

# isort: split
import torch_fidelity
import torch_fidelity.feature_extractor_inceptionv3 as its_inception


class Moments(torch.nn.Module):
    def forward(self, images):
        x = images.float()
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], 1)


class Flat(torch.nn.Module):
    def forward(self, images):
        return images.float().mean()


@pytest.fixture
def images():
    return torch.randint(256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Infinite(torch.nn.Module):
    def forward(self, images):
        return images.float().mean(dim=(2, 3)) / 0


def test_torchscript_and_exported_programs(images, tmp_path):
    torch.jit.script(Moments()).save(str(tmp_path / "scripted.pt"))
    batch = {"images": {0: torch.export.Dim("batch", min=1)}}
    torch.export.save(torch.export.export(Moments(), (images,), dynamic_shapes=batch), tmp_path / "exported.pt2")
    for name in ("scripted.pt", "exported.pt2"):
        found = Extractor(tmp_path / name, standard=False).features(images, batch_size=2)
        assert torch.allclose(found, Moments()(images)), name


def test_a_file_that_is_no_network(images, tmp_path):
    for name in ("noise.pt", "noise.pt2"):
        (tmp_path / name).write_bytes(b"noise")
        with pytest.raises(UserError, match=f"--feature_extractor .*{name} can be loaded neither"):
            Extractor(tmp_path / name, standard=False).features(images)


def test_a_network_of_another_form(images, tmp_path):
    torch.jit.script(Flat()).save(str(tmp_path / "flat.pt"))
    with pytest.raises(UserError, match=r"gives \[\] for 5 images; it must give \[N,D\]"):
        Extractor(tmp_path / "flat.pt", standard=False).features(images)
    torch.jit.script(torch.nn.Conv2d(4, 4, 1)).save(str(tmp_path / "conv.pt"))
    with pytest.raises(UserError, match=r"conv.pt fails on uint8 images \[5, 3, 8, 8\]"):
        Extractor(tmp_path / "conv.pt", standard=False).features(images)
    torch.jit.script(Infinite()).save(str(tmp_path / "infinite.pt"))
    with pytest.raises(UserError, match="infinite.pt gives features that are not finite"):
        Extractor(tmp_path / "infinite.pt", standard=False).features(images)


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


class SmallNetwork(torch_fidelity.FeatureExtractorBase):
    """12 features of a random convolution, registered with torch-fidelity and given to us as a callable."""

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)
        generator = torch.Generator().manual_seed(0)
        self.kernel = torch.nn.Parameter(torch.randn(12, 3, 5, 5, generator=generator) / 75**0.5)

    def forward(self, images):
        return (torch.conv2d(images.float() / 255, self.kernel, stride=2).relu().mean((2, 3)),)

    @staticmethod
    def get_provided_features_list():
        return ("features",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "features"

    @staticmethod
    def can_be_compiled():
        return False


torch_fidelity.register_feature_extractor("small-random-network", SmallNetwork)


def its_scores(fake, real, **arguments):
    """What torch-fidelity says of the same images."""
    found = torch_fidelity.calculate_metrics(
        input1=Images(fake), input2=Images(real), kid=True, prc=True, cuda=False, cache=False, verbose=False,
        save_cpu_ram=True, **arguments,
    )  # fmt: skip
    names = {
        "fid": torch_fidelity.KEY_METRIC_FID,
        "kid": torch_fidelity.KEY_METRIC_KID_MEAN,
        "kid_std": torch_fidelity.KEY_METRIC_KID_STD,
        "precision": torch_fidelity.KEY_METRIC_PRECISION,
        "recall": torch_fidelity.KEY_METRIC_RECALL,
    }
    return {ours: found[its] for ours, its in names.items() if its in found}


def two_sets(n_1, n_2):
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(n_1 + n_2, 3, 16, 32, generator=generator) * 255
    colour = torch.rand(n_1 + n_2, 3, 1, 1, generator=generator)  # differs from image to image
    colour[:n_1] = 0.4 + 0.5 * colour[:n_1]  # fakes are less varied, so recall falls
    images = (noise * colour).byte()
    return images[:n_1], images[n_1:]


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights in the file format that torch-fidelity loads."""
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(its_inception, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(its_inception.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = its_inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # PyTorch's own initialisation would fade to 0 in so many layers
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize(("n_fake", "n_real"), [(24, 32), (8, 30)])
def test_torch_fidelity_with_a_small_network(n_fake, n_real):
    fake, real = two_sets(n_fake, n_real)
    network = SmallNetwork("small-random-network", ["features"])
    scores = feature_scores(*(extract_features(lambda x: network(x)[0], images, 10) for images in (fake, real)))
    assert scores.pop("kid_subset_size") == n_fake // 2
    expected = its_scores(
        fake, real, fid=True, feature_extractor="small-random-network", kid_subset_size=n_fake // 2, batch_size=7
    )
    assert scores == pytest.approx(expected, rel=1e-4)
    assert 0 < scores["recall"] < 1


def test_standard_scores_are_those_of_its_inception(inception_file):
    fake, real = two_sets(4, 4)
    ours = inception_network(inception_file)
    scores = feature_scores(*(extract_features(ours, images, batch_size=3) for images in (fake, real)))
    network = its_inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], inception_file)
    expected = feature_scores(network(fake)[0], network(real)[0])
    assert scores == pytest.approx(expected, rel=1e-4)
    assert scores["fid"] > 0


def test_features_in_batches():
    images = torch.arange(10 * 3 * 4).view(10, 3, 2, 2).byte()
    features = extract_features(lambda batch: batch.double().mean((2, 3)), images, batch_size=4)
    assert features.dtype == torch.float32
    assert torch.equal(features, images.float().mean((2, 3)))


def test_kid_deviation_is_the_standard_error():
    # KID of 100 fresh draws of both sets: their deviation is what kid_std claims from one draw.
    generator = torch.Generator().manual_seed(0)

    pairs = torch.randn(100, 2, 40, 6, generator=generator)
    draws = [feature_scores(fake, real + 1) for fake, real in pairs]
    deviation = torch.tensor([scores["kid"] for scores in draws]).std().item()
    claimed = sum(scores["kid_std"] for scores in draws) / len(draws)
    assert claimed == pytest.approx(deviation, rel=0.3)


def test_equal_sets():
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    scores = feature_scores(features, features)
    assert scores["fid"] < 1e-9
    assert scores["precision"] == scores["recall"] == 1


def test_too_few_images():
    with pytest.raises(UserError, match="at least 4 images on each side, found 3 fake and 10 real"):
        feature_scores(torch.zeros(3, 2), torch.zeros(10, 2))


def test_weights_of_something_else(tmp_path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth holds no weights of torch-fidelity's Inception"):
        inception_network(tmp_path / "other.pth")


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
