"""The Frechet distance against closed forms, scipy's matrix root, and numbers of the published code."""

import zlib

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from SPADE.evaluation.distances import frechet_distance


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
