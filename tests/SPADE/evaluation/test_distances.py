"""The Frechet and the sliced Wasserstein distance against closed forms, scipy, brute force and published numbers."""

import zlib

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import wasserstein_distance

from SPADE.evaluation.distances import (
    frechet_distance,
    laplacian_pyramid,
    pyramid_patches,
    sliced_distance,
    sliced_wasserstein,
)


def features_from_text(text, shape, scale=1.0, shift=0.0):
    return np.random.default_rng(zlib.crc32(text.encode())).standard_normal(shape) * scale + shift


def with_exact_moments(mean, covariance, n, seed):
    """n samples whose sample mean and covariance (n - 1) are the given ones, not only in expectation."""
    samples = np.random.default_rng(seed).standard_normal((n, len(mean)))
    samples -= samples.mean(0)
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(samples.T)))
    return samples @ whitening.T @ np.linalg.cholesky(covariance).T + mean


def through_matrix_root(features_1, features_2):
    covariance_1, covariance_2 = np.cov(features_1.T), np.cov(features_2.T)
    difference = features_1.mean(0) - features_2.mean(0)
    root = sqrtm(covariance_1 @ covariance_2)
    return difference @ difference + np.trace(covariance_1) + np.trace(covariance_2) - 2 * np.trace(root).real


@pytest.mark.parametrize(
    ("case", "n_1", "n_2", "scale", "shift", "expected"),
    [("full", 200, 300, 1.3, 0.5, 31.288151126339272), ("rank_deficient", 40, 50, 0.8, 0.2, 41.98070743594691)],
)
def test_published_code(case, n_1, n_2, scale, shift, expected):
    features_1 = features_from_text(f"s/fid/1/{case}", (n_1, 64))
    features_2 = features_from_text(f"s/fid/2/{case}", (n_2, 64), scale, shift)
    # That code takes the roots of eigenvalues that should be 0 and are 1e-16: its second number is good to 1e-8.
    assert frechet_distance(features_1, features_2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n_1", "n_2"), [(50, 80), (7, 200)])
def test_commuting_covariances(n_1, n_2):
    # S1 and S2 share their eigenvectors: the distance is |m1 - m2|^2 + sum (sqrt(l1) - sqrt(l2))^2.
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6))).Q
    mean_1, mean_2 = rng.standard_normal((2, 6))
    eigen_1, eigen_2 = rng.uniform(0.1, 4, (2, 6))
    features_1 = with_exact_moments(mean_1, basis * eigen_1 @ basis.T, n_1, seed=1)
    features_2 = with_exact_moments(mean_2, basis * eigen_2 @ basis.T, n_2, seed=2)
    expected = ((mean_1 - mean_2) ** 2).sum() + ((eigen_1**0.5 - eigen_2**0.5) ** 2).sum()
    assert frechet_distance(features_1, features_2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n_1", "n_2"), [(100, 150), (100, 8), (8, 100)])
def test_matrix_root(n_1, n_2):
    # Correlated features with unlike scales; with 8 samples in 12 dimensions one covariance is singular.
    rng = np.random.default_rng(3)
    features_1 = rng.standard_normal((n_1, 12)) @ rng.standard_normal((12, 12))
    features_2 = rng.standard_normal((n_2, 12)) @ rng.standard_normal((12, 12)) + 1
    expected = through_matrix_root(features_1, features_2)
    assert frechet_distance(features_1, features_2) == pytest.approx(expected, rel=1e-6)


def test_proportions_that_sum_to_one():
    # The root in the subspace where proportions live: dropping one class by an isometry changes no distance.
    rng = np.random.default_rng(4)
    features_1 = rng.dirichlet([1, 2, 3, 4], 300)
    features_2 = rng.dirichlet([4, 3, 2, 1], 200)
    plane = np.linalg.svd(np.ones((1, 4))).Vh[1:]  # [3,4], orthonormal, orthogonal to (1,1,1,1)
    expected = through_matrix_root(features_1 @ plane.T, features_2 @ plane.T)
    assert frechet_distance(features_1, features_2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [5, 500])
def test_a_set_and_itself(n):
    features = np.random.default_rng(5).standard_normal((n, 20)) * 100
    assert 0 <= frechet_distance(features, features) < 1e-9
    assert frechet_distance(features, features + 3) == pytest.approx(20 * 9, rel=1e-9)


def test_constant_sets():
    assert frechet_distance(np.zeros((3, 2)), np.full((4, 2), 5.0)) == pytest.approx(50)


def test_tensors_in_single_precision():
    features_1, features_2 = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    in_double = frechet_distance(features_1.double(), features_2.double().numpy())
    assert frechet_distance(features_1, features_2) == in_double


@pytest.mark.parametrize(("shape_1", "shape_2"), [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5, 3))])
def test_unusable_sets(shape_1, shape_2):
    with pytest.raises(ValueError, match="features"):
        frechet_distance(np.zeros(shape_1), np.zeros(shape_2))


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
