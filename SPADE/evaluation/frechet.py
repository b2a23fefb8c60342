"""Frechet distance between Gaussian fits of two feature sets (Heusel et al. 2017, equation 6)."""

import torch


def frechet_distance(features_1, features_2):
    """|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)), with m the mean and S the covariance (n - 1) of a set.

    features_1 [n1,d] and features_2 [n2,d] are tensors or arrays; all is computed in float64 on the CPU.

    With X the centred features over sqrt(n - 1), S = X^T X, and S1 S2 has the non-zero eigenvalues of
    (X1 X2^T)(X1 X2^T)^T, which are the squared singular values of X1 X2^T. So the last trace is the sum of those
    singular values, and no root of a d x d matrix is taken: singular covariances (n < d, features that sum to 1) are
    nothing special.
    """
    mean_1, factor_1 = _mean_and_factor(features_1)
    mean_2, factor_2 = _mean_and_factor(features_2)
    if len(mean_1) != len(mean_2):
        raise ValueError(f"features of {len(mean_1)} and {len(mean_2)} dimensions cannot be compared")

    trace_of_root = torch.linalg.svdvals(factor_1 @ factor_2.T).sum()
    distance = (mean_1 - mean_2).square().sum() + factor_1.square().sum() + factor_2.square().sum() - 2 * trace_of_root
    return max(distance.item(), 0.0)  # equal sets give 0 up to rounding, which may fall below


def _mean_and_factor(features):
    """features [n,d] -> their mean [d] and a matrix X [min(n,d),d] with X^T X = their covariance."""
    features = torch.as_tensor(features, dtype=torch.float64, device="cpu")
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features must be [n,d] with n >= 2, found {list(features.shape)}")
    n, d = features.shape
    mean = features.mean(0)
    factor = (features - mean) / (n - 1) ** 0.5  # [n,d]
    if n > d:
        # X = QR with orthonormal columns in Q, so R^T R is the same covariance, and d rows are left of n.
        factor = torch.linalg.qr(factor, mode="r").R  # [d,d]
    return mean, factor
