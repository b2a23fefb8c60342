"""The sliced Wasserstein distance against closed forms, scipy, and brute force."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import wasserstein_distance

from SPADE.evaluation.distances import laplacian_pyramid, pyramid_patches, sliced_distance, sliced_wasserstein


def unit_vectors(k, d):
    vectors = torch.randn(k, d, generator=torch.Generator().manual_seed(1))
    return vectors / vectors.norm(dim=1, keepdim=True)


def smooth_images(n, height, width, seed):
    """uint8 [n,3,H,W]: noise with detail at every scale, so that each level has something to hold."""
    rng = np.random.default_rng(seed)
    scales = [gaussian_filter(rng.standard_normal((n, 3, height, width)), (0, 0, s, s)) for s in (0, 1, 2, 4, 8)]
    images = sum(scale / scale.std() for scale in scales)
    return torch.from_numpy((128 + 20 * images).clip(0, 255).astype(np.uint8))


def test_shifted_points():
    # Along a unit vector u, points shifted by v are shifted by u.v: so is every sorted value.
    points = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    shift, slices = torch.arange(8.0), unit_vectors(300, 8)
    expected = (slices @ shift).abs().mean().item()
    assert sliced_distance(points, points + shift, slices) == pytest.approx(expected, rel=1e-5)


def test_transport_on_a_line_by_scipy():
    points_1, points_2 = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
    points_2 = points_2.exp()
    slices = unit_vectors(7, 5)
    expected = np.mean([wasserstein_distance(points_1 @ s, points_2 @ s) for s in slices])
    assert sliced_distance(points_1, points_2, slices) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 32), (18, 13)])
def test_pyramid_by_scipy(height, width):
    image = np.random.default_rng(0).uniform(0, 255, (height, width))
    taps = np.array([1, 4, 6, 4, 1])
    kernel = np.outer(taps, taps) / 256
    half = convolve(image, kernel, mode="mirror")[::2, ::2]
    spread = np.zeros_like(image)
    spread[::2, ::2] = half
    expected = image - 4 * convolve(spread, kernel, mode="mirror")

    fine, coarse = laplacian_pyramid(torch.from_numpy(image)[None, None].expand(1, 3, -1, -1), 2)
    assert fine.shape == (1, 3, height, width)
    np.testing.assert_allclose(fine[0, 2], expected, atol=1e-9)
    np.testing.assert_allclose(coarse[0, 0], half, atol=1e-9)


def test_flat_images_have_empty_bands():
    *bands, coarsest = laplacian_pyramid(torch.full((1, 3, 31, 64), 77.0), 3)
    assert all(band.abs().max() < 1e-4 for band in bands)
    assert torch.allclose(coarsest, torch.tensor(77.0))


def test_patches_come_from_everywhere():
    # Pixels that name their image, row and column show where each patch was taken.
    n, height, width, count = 70, 9, 12, 700
    image, row, column = torch.meshgrid(torch.arange(n), torch.arange(height), torch.arange(width), indexing="ij")
    images = torch.stack([image, row, column], dim=1).byte()
    places = torch.rand(1, count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (patches,) = pyramid_patches(images, levels=[9], places=places)
    assert patches.shape == (count, 3, 7, 7)
    assert torch.bincount(patches[:, 0, 0, 0].long()).tolist() == [10] * n
    assert set(patches[:, 1, 0, 0].tolist()) == {0, 1, 2}
    assert set(patches[:, 2, 0, 0].tolist()) == {0, 1, 2, 3, 4, 5}
    steps = torch.arange(7.0)
    assert (patches[:, 0] == patches[:, 0, :1, :1]).all()
    assert (patches[:, 1] - patches[:, 1, :1, :1] == steps[:, None]).all()
    assert (patches[:, 2] - patches[:, 2, :1, :1] == steps).all()


def test_levels_of_wide_images():
    images = smooth_images(8, 40, 96, seed=0)
    assert list(sliced_wasserstein(images, images.flip(0))) == ["40", "20", "mean"]
    assert list(sliced_wasserstein(images[:, :, :, :64], images[:, :, :, 32:])) == ["40", "20", "mean"]
    assert list(sliced_wasserstein(images[:, :, :32], images[:, :, 8:])) == ["32", "16", "mean"]
    assert list(sliced_wasserstein(images[:, :, :8], images[:, :, 8:16])) == ["8", "mean"]


def test_equal_sets_and_seeds():
    images, others = smooth_images(16, 32, 64, seed=0), smooth_images(24, 32, 64, seed=1)
    assert set(sliced_wasserstein(images, images).values()) == {0.0}
    first = sliced_wasserstein(images, others, seed=3)
    assert first == sliced_wasserstein(images, others, seed=3)
    assert first != sliced_wasserstein(images, others, seed=4)
    assert first["mean"] == pytest.approx((first["32"] + first["16"]) / 2)


def test_every_fault_shows_at_its_level():
    images = smooth_images(24, 64, 96, seed=0)
    floor = sliced_wasserstein(images, smooth_images(24, 64, 96, seed=1))
    blur = sliced_wasserstein(images, torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, 1.5, 1.5))))
    assert blur["64"] > blur["32"] > blur["16"]
    assert blur["64"] > 2 * floor["64"]

    # Rows carry a wave of 32 pixels, which only the coarsest level holds.
    wave = 60 * torch.sin(torch.arange(64) * 2 * torch.pi / 32)[:, None]
    waved = sliced_wasserstein(images, (images + wave).clamp(0, 255).byte())
    assert waved["16"] > waved["32"] > waved["64"]
    assert waved["16"] > 2 * floor["16"]


def test_blank_images_are_far():
    images, blank = smooth_images(16, 32, 32, seed=0), torch.full((16, 3, 32, 32), 100, dtype=torch.uint8)
    # Normalised real patches have deviation 1, blank ones are 0: E|N(0,1)| = 0.8 in every direction, times 1e3.
    scores = sliced_wasserstein(images, blank)
    assert scores["32"] == pytest.approx(800, rel=0.2)


def test_unusable_images():
    images = smooth_images(2, 16, 16, seed=0)
    with pytest.raises(ValueError, match="one size"):
        sliced_wasserstein(images, images[:, :, :, :8])
    with pytest.raises(ValueError, match="smaller than a patch"):
        sliced_wasserstein(images[:, :, :6], images[:, :, :6])
