"""All scores of one set of images against another, as a record that says how it was made."""

import warnings
from importlib.metadata import version

from SPADE.evaluation.features import Extractor, mean_distance, small_pixels
from SPADE.evaluation.fidelity import FEWEST_IMAGES, feature_scores
from SPADE.evaluation.swd import sliced_wasserstein

MOSTLY_BIAS_BELOW = 2048  # images; with fewer, FID's bias is of the size of the differences that one looks for
OTHER_NAMES = {"fid": "fd", "kid": "kd", "kid_std": "kd_std", "kid_subset_size": "kd_subset_size"}
SWD_PROTOCOL = (
    "sliced Wasserstein distance x 1e3 per pyramid level (pixels on the shorter side), 128 patches of 7x7x3 per image "
    "and level, 512 directions (Karras et al. 2018)"
)


def score_images(
    fake,  # uint8 [N,3,H,W]
    real,  # uint8 [M,3,H,W]
    extractor: Extractor | None = None,  # None leaves out what needs a feature network
    device="cpu",
    fake_features=None,  # float [N,D], where they are known already
    real_features=None,  # float [M,D], the same
    left_out_because="no feature network was given",
):
    """A JSON-able record: counts, size, swd, fid, kid, kid_std, precision, recall, diversity, protocol.

    With another network than the standard Inception the same numbers are called fd, kd, kd_std. Where they are missing
    `fid_left_out` says why; under 2048 images `warning` says what they are worth, and the same goes out as a Python
    warning. Diversity is the mean distance between two fakes, beside that of the real images, in the feature space
    used, or in that of small pixels.
    """
    record = {
        "fake_images": len(fake),
        "real_images": len(real),
        "height": fake.shape[2],
        "width": fake.shape[3],
        "swd": sliced_wasserstein(fake, real),
        "protocol": {"swd": SWD_PROTOCOL},
    }
    fewest = min(len(fake), len(real))
    if fewest < FEWEST_IMAGES:
        record["fid_left_out"] = f"it needs at least {FEWEST_IMAGES} images on each side, found {fewest}"
    elif extractor is None:
        record["fid_left_out"] = left_out_because
    if "fid_left_out" in record:
        diversity(record, small_pixels(fake), small_pixels(real), "pixels averaged to 16 rows, root mean square")
        return record

    fake_features = extractor.features(fake, device) if fake_features is None else fake_features
    real_features = extractor.features(real, device) if real_features is None else real_features
    scores = feature_scores(fake_features, real_features)
    name = f"{extractor.path.name} (SHA-256 {extractor.digest[:8]})"
    diversity(record, fake_features, real_features, f"features of {name}")
    if extractor.standard:
        record |= scores
        record["protocol"]["fid"] = (
            f"standard: {name}, uint8 images resized by torch-fidelity {version('torch-fidelity')}; kid, precision and "
            "recall from the same features"
        )
    else:
        record |= {OTHER_NAMES.get(key, key): value for key, value in scores.items()}
        record["protocol"]["fd"] = (
            f"Frechet distance of features of {name}: not FID, and to be compared with numbers of this network alone; "
            "kd (kernel distance, as in KID), precision and recall from the same features"
        )
    if fewest < MOSTLY_BIAS_BELOW:
        record["warning"] = (
            f"{'FID' if extractor.standard else 'the Frechet distance'} of {len(fake)} images against {len(real)} is "
            "mostly bias: compare at equal counts only"
        )
        warnings.warn(record["warning"], stacklevel=2)
    return record


def diversity(record, fake_features, real_features, space):
    if min(len(fake_features), len(real_features)) >= 2:
        record["diversity"], record["diversity_of_real"] = mean_distance(fake_features), mean_distance(real_features)
        record["protocol"]["diversity"] = f"mean distance between two images of a set; {space}"
