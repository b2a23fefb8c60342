"""FID, KID, precision and recall of uint8 images: a network, features, numbers.

The standard network and the formulas of KID, precision and recall are torch-fidelity's. The Frechet distance is ours:
the same number without the eigenvalues of a 2048 x 2048 matrix, which take longer than everything else on a CPU.
"""

import torch

from datasets.errors import UserError
from SPADE.evaluation.frechet import frechet_distance
from SPADE.pretrained import load_weights
from SPADE.torchvision_import import torchvision  # noqa: F401 (torch-fidelity imports it, so it comes first)

# isort: split
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

FEWEST_IMAGES = 4  # precision and recall look at the third neighbour
LARGEST_KID_SUBSET = 1000


def fidelity_scores(fake, real, weights_path, batch_size=32, device="cpu"):
    """The standard scores of fake against real images, both uint8 [N,3,H,W]; weights_path as of `inception_weights`."""
    network = inception_network(weights_path, device)
    return feature_scores(
        extract_features(network, fake, batch_size, device), extract_features(network, real, batch_size, device)
    )


def inception_network(weights_path, device="cpu"):
    """uint8 [N,3,H,W] -> float [N,2048]: the Inception of the standard FID, resizing included."""
    load_weights(weights_path)  # torch-fidelity would run code that it finds in a file: only tensors get past this line
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], weights_path)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{weights_path} holds no weights of torch-fidelity's Inception ({reason})") from error
    network.to(device)
    return lambda images: network(images)[0]


@torch.inference_mode()
def extract_features(network, images, batch_size=32, device="cpu"):
    """images uint8 [N,3,H,W] through any network [n,3,H,W] -> [n,D]: float32 [N,D] on the CPU."""
    return torch.cat([network(batch.to(device)).float().cpu() for batch in images.split(batch_size)])


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
