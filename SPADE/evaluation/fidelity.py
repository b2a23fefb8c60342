"""FID, KID, precision and recall of features.

The formulas of KID, precision and recall are torch-fidelity's. The Frechet distance is ours:
the same number without the eigenvalues of a 2048 x 2048 matrix, which take longer than everything else on a CPU.
"""

from datasets.errors import UserError
from SPADE.evaluation.frechet import frechet_distance
from SPADE.torchvision_import import torchvision  # noqa: F401 (torch-fidelity imports it, so it comes first)

# isort: split
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

FEWEST_IMAGES = 4  # precision and recall look at the third neighbour
LARGEST_KID_SUBSET = 1000


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
