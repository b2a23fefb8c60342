"""Distances between sets of features: Frechet, KID, precision and recall.

The formulas of KID, precision and recall are torch-fidelity's. The Frechet distance (Heusel et al. 2017, equation 6) is
ours: the same number without the eigenvalues of a 2048 x 2048 matrix, which take longer than all else on a CPU.
"""

import torch

from datasets.errors import UserError
from SPADE.torchvision_import import torchvision  # noqa: F401 (torch-fidelity imports it, so it comes first)

# isort: split
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

FEWEST_IMAGES = 4  # precision and recall look at the third neighbour
LARGEST_KID_SUBSET = 1000


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


def feature_scores(fake, real):
    """Features [N,D] of fake and real images -> fid, kid, kid_std, kid_subset_size, precision, recall.

    kid: mean of the unbiased estimate over 100 random subsets (Binkowski et al. 2018). kid_std: its deviation between
    subsets. Subsets hold half of the smaller set, at most 1000: for halves this is the jackknife estimate of KID's
    standard error, and it errs upwards otherwise. (Subsets of all images would be one and the same, with deviation 0.)

    precision: share of fakes that are closer to some real image than its third neighbour; recall: the reverse
    (Kynkaanniemi et al. 2019).
    """
    fewest = min(len(fake), len(real))
    if fewest < FEWEST_IMAGES:
        raise UserError(
            f"FID, KID, precision and recall need at least {FEWEST_IMAGES} images on each side, "
            f"found {len(fake)} fake and {len(real)} real: score more images"
        )
    kid_subset_size = min(fewest // 2, LARGEST_KID_SUBSET)
    kid = kid_features_to_metric(fake, real, kid_subset_size=kid_subset_size, verbose=False)
    prc = prc_features_to_metric(fake, real, verbose=False)
    return {
        "fid": frechet_distance(fake, real),
        "kid": kid[KEY_METRIC_KID_MEAN],
        "kid_std": kid[KEY_METRIC_KID_STD],
        "kid_subset_size": kid_subset_size,
        "precision": prc[KEY_METRIC_PRECISION],
        "recall": prc[KEY_METRIC_RECALL],
    }
