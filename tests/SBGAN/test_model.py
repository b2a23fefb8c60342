"""A trained model: walks, edited and completed layouts, offsets that give each class its share."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from SBGAN import load
from SBGAN import model as models
from SBGAN.model import truncated
from SBGAN.networks import LayoutGenerator
from SPADE.engine.images import latents
from tests.SBGAN.conftest import run


@pytest.mark.usefixtures("winograd_everywhere")
def test_truncation(checkpoint):
    generator = load(checkpoint, device="cpu").layout_generator
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    spread = []
    with torch.no_grad():
        plain = generator(z)
        for psi in (0, 0.3, 0.7, 1):
            with truncated(generator, psi):
                spread.append(generator(z).exp().var(0).mean().item())
        assert torch.equal(generator(z), plain)
    assert spread[0] < 1e-12 and spread == sorted(spread)
    assert spread[3] == pytest.approx(plain.exp().var(0).mean().item())


@pytest.mark.usefixtures("winograd_everywhere")
def test_a_walk_is_closed_and_passes_its_samples(checkpoint, tmp_path):
    run(checkpoint, tmp_path / "out", "--interpolate", 3, "--frames", 4)
    with Image.open(tmp_path / "out/walk.webp") as animation:
        assert (animation.n_frames, animation.size, animation.info["loop"]) == (12, (64, 64), 0)
        frames = np.stack([np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(animation)])
    _, images = load(checkpoint, device="cpu").sample(range(3))
    for k, image in enumerate(images.permute(0, 2, 3, 1).numpy()):  # WebP loses, so the nearest frame is asked for
        assert abs(frames[:, 32:] - image).mean((1, 2, 3)).argmin() == 4 * k


@pytest.fixture(scope="module")
def model(untrained):
    torch.manual_seed(1)
    return load(untrained.joined(name="finetune_21.pt"), device="cpu")


def left_half(height, width):
    return torch.arange(width).expand(1, height, width) < width // 2


def test_completions_keep_the_sketch_and_differ(model):
    layout = torch.from_numpy(model_layout(model))
    fixed = left_half(32, 64)
    layouts, agreement = model.complete(layout, fixed, num=3, seed=5, steps=10)
    assert layouts.shape == (3, 1, 32, 64) and layouts.dtype == torch.uint8
    assert torch.equal(layouts[..., :32], layout[None, ..., :32].expand(3, -1, -1, -1))
    assert len({tuple(free.flatten().tolist()) for free in layouts[..., 32:]}) == 3
    assert ((agreement > 0.3) & (agreement <= 1)).all()
    again, _ = model.complete(torch.where(fixed, layout, 255), fixed, num=3, seed=5, steps=10)
    assert torch.equal(again, layouts)  # whatever the free pixels hold
    other, _ = model.complete(layout, fixed, num=2, seed=6, steps=10)
    assert (other[0] == layouts[1]).float().mean() > 0.99  # number k is that of seed + k, up to the order of sums


def model_layout(model):
    return model.sample_layouts([70])[0].repeat_interleave(2, 1).repeat_interleave(2, 2).numpy()


def test_editing_changes_the_region_alone_and_its_image_is_the_pairs(model):
    layout, name = torch.from_numpy(model_layout(model)), model.label_space.names[4]
    edited, image = model.edit(layout, (4, 8, 20, 24), name, seed=3)
    region = torch.zeros(1, 32, 64, dtype=torch.bool)
    region[:, 4:20, 8:24] = True
    assert (edited[region] == 4).all() and torch.equal(edited[~region], layout[~region])
    assert torch.equal(image, model.render(edited[None], [3])[0])
    assert torch.equal(model.edit(layout, region, name, seed=3)[0], edited)


def test_a_walk_passes_its_samples(model):
    layouts, images = zip(*model.walk(range(2), 9), strict=True)
    wanted_layouts, wanted_images = model.sample(range(2))
    assert torch.equal(torch.cat(layouts)[[0, 9]], wanted_layouts)
    assert torch.equal(torch.cat(images)[[0, 9]], wanted_images)


def shares(classes, num_classes: int):
    return torch.bincount(classes.flatten().long(), minlength=num_classes).double() / classes.numel()


def test_offsets_are_kept_until_the_weights_change():
    torch.manual_seed(2)
    generator = LayoutGenerator(5, 2, 8, latent_dim=4, fmap_max=8)
    first = models.class_offsets(generator)
    assert models.class_offsets(generator) is first
    with models.truncated(generator, 0.5):
        assert models.class_offsets(generator) is first
    with torch.no_grad():
        generator.heads[-1].bias[0] += 3
    assert not torch.equal(models.class_offsets(generator), first)


def test_layouts_have_the_generators_shares():
    torch.manual_seed(3)
    generator = LayoutGenerator(5, 2, 16, latent_dim=4, fmap_max=8)
    z = latents(range(64), 4, "cpu")
    with torch.no_grad():
        generator.heads[-1].bias[4] -= 4
        wanted = generator(z).double().exp().mean((0, 2, 3))
    torch.testing.assert_close(shares(models.layouts_of(generator, z), 5), wanted, rtol=0.15, atol=0.01)
