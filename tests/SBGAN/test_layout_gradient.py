"""The image's gradient reaches the layout generator through SPADE, by the way that was asked for."""

from types import SimpleNamespace

import pytest
import torch

from datasets.labels import one_hot
from SBGAN.discretize import argmax, straight_through
from SBGAN.joint_stage import images_of, layouts_to_draw
from SBGAN.networks import LayoutGenerator
from SPADE.networks import SPADEGenerator

CLASSES = 5


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return LayoutGenerator(CLASSES, 2, 16, 8, fmap_max=8), SPADEGenerator(CLASSES, 32, 64, 4, 5, 8)


def layout_gradients(networks, layout_grad):
    """Gradients of a function of the image at the layouts and at the layout generator's parameters."""
    layout_generator, spade_generator = networks
    spade_generator.eval()  # the same power iterations for every call
    layout_generator.zero_grad()
    torch.manual_seed(1)
    layouts = straight_through(layout_generator(torch.randn(2, 8)))
    layouts.retain_grad()
    image = images_of(spade_generator, layouts, None, layout_grad)
    (image * torch.linspace(-1, 1, image.numel()).view_as(image)).sum().backward()
    return layouts, {name: p.grad.clone() for name, p in layout_generator.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("layout_grad", ["stem", "full"])
def test_the_gradient_reaches_every_block_of_the_layout_generator(networks, layout_grad):
    _, gradients = layout_gradients(networks, layout_grad)
    assert all(gradients[f"blocks.{i}.conv2.weight"].abs().max() > 0 for i in range(3))


def test_stem_touches_sampled_pixels_alone_and_full_touches_all(networks):
    stem = layout_gradients(networks, "stem")[0].grad
    full = layout_gradients(networks, "full")[0].grad
    # The stem sees the 16x32 layout at 1x2: nearest samples of pixel (0, 0) and (0, 16).
    seen = torch.zeros(16, 32, dtype=torch.bool)
    seen[0, 0] = seen[0, 16] = True
    assert torch.equal(stem.abs().sum((0, 1)) > 0, seen)
    assert (full.abs().sum((0, 1)) > 0).float().mean() > 0.9


def test_full_and_stem_differ_in_the_gradient_but_not_in_the_image(networks):
    of_stem, of_full = (layout_gradients(networks, way)[1] for way in ("stem", "full"))
    assert any((of_stem[k] - of_full[k]).abs().max() > 0.1 * of_stem[k].abs().max() for k in of_stem)
    layouts = one_hot(torch.randint(0, CLASSES, (2, 1, 16, 32), dtype=torch.uint8), CLASSES)
    spade_generator = networks[1].eval()
    of_stem, of_full = (images_of(spade_generator, layouts, None, way) for way in ("stem", "full"))
    assert torch.allclose(of_stem, of_full)


def test_full_is_the_gradient_of_the_network_as_a_function_of_soft_layouts(networks):
    """Central differences of the image along a direction in the (real-valued) semantics, in float64."""
    spade_generator = networks[1].double().eval()
    semantics = torch.rand(1, CLASSES, 16, 32, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((spade_generator(semantics) * weights).sum(), semantics)
    direction, step = torch.randn_like(semantics), 1e-6
    with torch.no_grad():
        ahead, behind = ((spade_generator(semantics + s * direction) * weights).sum() for s in (step, -step))
    assert torch.isclose((gradient * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-5)


def test_labels_and_their_one_hot_give_one_image(networks):
    spade_generator = networks[1].eval()
    labels = torch.randint(0, CLASSES, (2, 1, 32, 64), dtype=torch.uint8)
    assert torch.allclose(spade_generator(labels), spade_generator(one_hot(labels, CLASSES)), atol=1e-6)
    assert torch.equal(argmax(one_hot(labels, CLASSES)), labels)


def test_the_likeliest_classes_are_drawn_with_the_gradient_of_the_probabilities():
    torch.manual_seed(2)
    scores = torch.randn(2, CLASSES, 4, 8, dtype=torch.float64, requires_grad=True)
    sampled, config = straight_through(scores.log_softmax(1)), SimpleNamespace(temperature=0.5, drawn_layouts="argmax")
    drawn = layouts_to_draw(scores.log_softmax(1), sampled, config)
    assert torch.equal(argmax(drawn), scores.argmax(1, keepdim=True).byte()) and not torch.equal(drawn, sampled)
    weights = torch.randn_like(drawn)
    (found,) = torch.autograd.grad((drawn * weights).sum(), scores)
    (wanted,) = torch.autograd.grad(((scores / 0.5).softmax(1) * weights).sum(), scores)
    torch.testing.assert_close(found, wanted)
    config.drawn_layouts = "sampled"
    assert layouts_to_draw(scores, sampled, config) is sampled
