"""All scores of one set of images against another, as a record that says how it was made."""

import warnings
from importlib.metadata import version
from pathlib import Path

from SPADE.metrics.fidelity import FEWEST_IMAGES, fidelity_scores
from SPADE.metrics.swd import sliced_wasserstein
from SPADE.pretrained import sha256

MOSTLY_BIAS_BELOW = 2048  # images; with fewer, FID's bias is of the size of the differences that one looks for


def score_images(
    fake,  # uint8 [N,3,H,W]
    real,  # uint8 [M,3,H,W]
    inception=None,  # path of the Inception weights; None leaves out what needs them
    device="cpu",
    batch_size=32,
    left_out_because="no Inception weights were given",
):
    """A JSON-able record: counts, size, swd (levels and mean), fid, kid, kid_std, precision, recall, protocol.

    Where FID and friends are missing, `fid_left_out` says why; under 2048 images `warning` says what FID is worth, and
    the same goes out as a Python warning.
    """
    record = {
        "fake_images": len(fake),
        "real_images": len(real),
        "height": fake.shape[2],
        "width": fake.shape[3],
        "swd": sliced_wasserstein(fake, real),
        "protocol": {
            "swd": "sliced Wasserstein distance x 1e3 per pyramid level (pixels on the shorter side), 128 patches of "
            "7x7x3 per image and level, 512 directions (Karras et al. 2018)"
        },
    }
    fewest = min(len(fake), len(real))
    if inception is None:
        record["fid_left_out"] = left_out_because
        return record
    if fewest < FEWEST_IMAGES:
        record["fid_left_out"] = f"it needs at least {FEWEST_IMAGES} images on each side, found {fewest}"
        return record

    record.update(fidelity_scores(fake, real, inception, batch_size, device))
    record["protocol"]["fid"] = (
        f"standard: {Path(inception).name} (SHA-256 {sha256(inception)[:8]}), uint8 images resized by torch-fidelity "
        f"{version('torch-fidelity')}; kid, precision and recall from the same features"
    )
    if fewest < MOSTLY_BIAS_BELOW:
        record["warning"] = (
            f"FID of {len(fake)} images against {len(real)} is mostly bias: compare at equal counts only"
        )
        warnings.warn(record["warning"], stacklevel=2)
    return record
