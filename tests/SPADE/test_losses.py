"""Losses against loops over pixels, formulas, and torchvision's VGG-19."""

import math

import pytest
import torch

from datasets.errors import UserError
from SPADE import losses
from SPADE.losses import VGG19Features, vgg_loss
from SPADE.pretrained import torchvision

C = 4


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.randint(3, (2, 1, 4, 6), dtype=torch.uint8)  # class 3 occurs nowhere
    return labels, torch.randn(2, C + 1, 4, 6, dtype=torch.float64)


def test_balanced_cross_entropy_pixel_by_pixel(batch):
    labels, logits = batch
    total, pixels = 0.0, [(n, y, x) for n in range(2) for y in range(4) for x in range(6)]
    counts = [int((labels == c).sum()) for c in range(C)]
    for n, y, x in pixels:
        c = int(labels[n, 0, y, x])
        weight = len(pixels) / (sum(count > 0 for count in counts) * counts[c])
        total -= weight * math.log(logits[n, :, y, x].softmax(0)[c])
    assert counts[3] == 0 and losses.class_balance(labels, C)[3] == 0
    found = losses.segmentation_real(logits, labels)
    torch.testing.assert_close(found.item(), total / len(pixels), rtol=1e-5, atol=0)


def test_parts_of_a_batch_weigh_classes_as_the_whole_does(batch):
    """The second image alone lacks classes of the first."""
    labels, logits = batch
    labels = torch.cat([labels[:1], labels[1:].clamp_max(1)])
    whole, balance = losses.segmentation_real(logits, labels), losses.class_balance(labels, C)
    parts = [losses.segmentation_real(logits[i : i + 1], labels[i : i + 1], balance) for i in range(2)]
    torch.testing.assert_close(sum(parts) / 2, whole)
    assert abs(sum(losses.segmentation_real(logits[i : i + 1], labels[i : i + 1]) for i in range(2)) / 2 - whole) > 0.01


def test_fake_is_the_last_class(batch):
    _, logits = batch
    wanted = torch.nn.functional.cross_entropy(logits, torch.full((2, 4, 6), C))
    torch.testing.assert_close(losses.segmentation_fake(logits), wanted)


def test_label_mix_takes_whole_classes(batch):
    labels, _ = batch
    chosen = torch.tensor([[True, False, True, False], [False, False, True, True]])
    mask = losses.label_mix(labels, chosen)
    for n in range(2):
        for y in range(4):
            for x in range(6):
                assert mask[n, 0, y, x] == chosen[n, labels[n, 0, y, x].long()]


def test_a_critic_that_judges_pixels_alone_is_consistent(batch):
    labels, real = batch
    fake = torch.randn_like(real)
    mask = losses.label_mix(labels, torch.tensor([[True, False, True, False]] * 2))
    assert losses.mixing_consistency(mask * real + (1 - mask) * fake, real, fake, mask) < 1e-12
    assert losses.mixing_consistency(real, real, fake, mask) > 0.1


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def features():
    return VGG19Features(weights_path=None)


@pytest.fixture(scope="module")
def weights_file(features, tmp_path_factory):
    """A file with the keys of torchvision's whole network, classifier included (here as a stub)."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state = {f"features.{key}": value for key, value in features.layers.state_dict().items()}
    torch.save({**state, "features.34.bias": torch.zeros(512), "classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def activations_by_hooks(features, images):
    """What follows conv1_1, conv2_1, ... in torchvision's network: its first ReLU, and the one after each pooling."""
    network = torchvision.models.vgg19(init_weights=False).features.eval()
    network.load_state_dict(features.layers.state_dict(), strict=False)
    found, after_pooling = [], True
    for layer in network:
        if isinstance(layer, torch.nn.MaxPool2d):
            after_pooling = True
        elif isinstance(layer, torch.nn.ReLU) and after_pooling:
            layer.register_forward_hook(lambda module, inputs, output: found.append(output.clone()))
            after_pooling = False
    with torch.no_grad():
        network(images)
    return found


def test_torchvision(features, images):
    expected = activations_by_hooks(features, images)
    outputs = features(images)
    assert [list(output.shape) for output in outputs] == [
        [2, 64, 32, 48],
        [2, 128, 16, 24],
        [2, 256, 8, 12],
        [2, 512, 4, 6],
        [2, 512, 2, 3],
    ]
    for output, reference in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, reference)


def test_weights_from_a_file(weights_file, features, images):
    loaded = VGG19Features(weights_file)
    for output, expected in zip(loaded(images), features(images), strict=True):
        torch.testing.assert_close(output, expected)


def test_imagenet_normalisation(weights_file, images):
    preset = torchvision.models.VGG19_Weights.IMAGENET1K_V1.transforms()
    normalised = torchvision.transforms.functional.normalize((images + 1) / 2, preset.mean, preset.std)
    with_option = VGG19Features(weights_file, imagenet_normalisation=True)(images)
    for output, expected in zip(with_option, VGG19Features(weights_file)(normalised), strict=True):
        torch.testing.assert_close(output, expected)


def test_frozen_but_differentiable(features, images):
    assert not any(parameter.requires_grad for parameter in features.parameters())
    fake = images.clone().requires_grad_()
    real = (images / 2).requires_grad_()
    vgg_loss(features(fake), features(real)).backward()
    assert fake.grad.abs().sum() > 0
    assert real.grad is None


def test_loss_by_hand():
    fake = [torch.full((1, 1, 2, 2), value) for value in (1.0, 2.0, 3.0, 4.0, 5.0)]
    real = [torch.zeros(1, 1, 2, 2)] * 5
    assert vgg_loss(fake, real).item() == pytest.approx(1 / 32 + 2 / 16 + 3 / 8 + 4 / 4 + 5)
    assert vgg_loss(fake, fake).item() == 0


def test_seed_decides_random_weights(features):
    same, other = VGG19Features(None).layers[0].weight, VGG19Features(None, seed=1).layers[0].weight
    assert torch.equal(same, features.layers[0].weight)
    assert not torch.equal(other, same)


def test_a_file_of_something_else(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth holds no VGG-19"):
        VGG19Features(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth holds no VGG-19"):
        VGG19Features(tmp_path / "list.pth")
