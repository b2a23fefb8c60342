"""FID, KID, precision and recall against torch-fidelity's own, with random networks: nothing to download."""

import pytest
import torch

from datasets.errors import UserError
from SPADE.evaluation.distances import feature_scores
from SPADE.evaluation.features import extract_features, inception_network
from SPADE.pretrained import torchvision  # noqa: F401 (before torch-fidelity)

# isort: split
import torch_fidelity
import torch_fidelity.feature_extractor_inceptionv3 as its_inception


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
