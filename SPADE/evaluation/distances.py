"""Distances between sets: of features (Frechet, KID, precision and recall), and of images without any network (SWD).

The formulas of KID, precision and recall are torch-fidelity's. The Frechet distance (Heusel et al. 2017, equation 6) is
ours: the same number without the eigenvalues of a 2048 x 2048 matrix, which take longer than all else on a CPU.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from datasets.errors import UserError
from SPADE.pretrained import torchvision  # noqa: F401 (torch-fidelity imports it, so it comes first)

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


# --- Sliced Wasserstein distance of Laplacian-pyramid patches (Karras et al. 2018, section 5) ---

PATCH = 7  # pixels on a side
SMALLEST_LEVEL = 16  # pixels on the shorter side of the coarsest level
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
DIRECTIONS_AT_ONCE = 128  # of the random directions; bounds the memory of the projections


def sliced_wasserstein(images_1, images_2, patches_per_image=128, directions=512, seed=0):
    """images_1, images_2: uint8 [N,3,H,W] of one size -> {"64": value, "32": ..., "16": ..., "mean": ...}, times 1e3.

    A level is named by the pixels on its shorter side. The finest holds what blurring removes (texture, noise), the
    coarsest what is left (large shapes). Patches are normalised over their set, so a set that is darker or paler as a
    whole is not farther away. Where the sets differ in number the larger is sampled more thinly, as the distance needs
    as many patches from each. Patches lie at the same places in both sets (image 0 to image 0, ...), so equal sets are
    at distance 0. Memory: 75 KB per image and level.
    """
    if images_1.shape[1:] != images_2.shape[1:]:
        raise ValueError(f"images must have one size, found {list(images_1.shape)} and {list(images_2.shape)}")
    levels = _levels(*images_1.shape[2:])

    generator = torch.Generator().manual_seed(seed)
    count = patches_per_image * min(len(images_1), len(images_2))
    places = torch.rand(len(levels), count, 2, generator=generator, dtype=torch.float64)
    patches_1 = pyramid_patches(images_1, levels, places)
    patches_2 = pyramid_patches(images_2, levels, places)

    scores = {}
    for name, level_1, level_2 in zip(levels, patches_1, patches_2, strict=True):
        slices = torch.randn(directions, level_1[0].numel(), generator=generator)
        slices /= slices.norm(dim=1, keepdim=True)  # [K,D]
        scores[str(name)] = 1e3 * sliced_distance(_descriptors(level_1), _descriptors(level_2), slices)
    scores["mean"] = sum(scores.values()) / len(scores)
    return scores


def sliced_distance(points_1, points_2, slices):
    """Mean over unit vectors `slices` [K,D] of the 1-D Wasserstein-1 distance of points_1, points_2 [P,D] along them.

    In one dimension the best transport between sets of equal size joins the sorted values in order.
    """
    distances, threads = [], torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for some in slices.split(DIRECTIONS_AT_ONCE):
            along_1, along_2 = ((some @ points.T).numpy() for points in (points_1, points_2))  # [k,P]
            # NumPy sorts floats many times faster than PyTorch, which also returns where they were, and lets threads
            # do so side by side, each some of the rows.
            parts = [*np.array_split(along_1, threads), *np.array_split(along_2, threads)]
            for _ in pool.map(partial(np.ndarray.sort, axis=1), parts):
                pass
            along_1 -= along_2
            distances.append(np.abs(along_1, out=along_1).mean(axis=1, dtype=np.float64))
    return float(np.concatenate(distances).mean())


def pyramid_patches(images, levels, places):
    """Patches of each level's band, taken evenly from all images: a list of float [P,3,7,7].

    images uint8 [N,3,H,W]; places float64 [levels,P,2] in [0,1): the patch's top left corner as a share of the range.
    """
    count = places.shape[1]
    patches = [torch.empty(count, images.shape[1], PATCH, PATCH) for _ in levels]
    image_of_patch = torch.arange(count) * len(images) // count  # [P], ascending
    offset = torch.arange(PATCH)
    channel = torch.arange(images.shape[1])[:, None, None]  # [3,1,1]
    for start in range(0, len(images), 64):
        batch = images[start : start + 64].cpu().float()
        chosen = (image_of_patch >= start) & (image_of_patch < start + 64)
        image = (image_of_patch[chosen] - start)[:, None, None, None]  # [p,1,1,1]
        for level, band in enumerate(laplacian_pyramid(batch, len(levels))):
            room = torch.tensor(band.shape[2:]) - PATCH + 1
            y, x = (places[level, chosen] * room).long().T  # [p] each
            rows = (y[:, None] + offset)[:, None, :, None]  # [p,1,7,1]
            columns = (x[:, None] + offset)[:, None, None, :]  # [p,1,1,7]
            patches[level][chosen] = band[image, channel, rows, columns]  # [p,3,7,7]
    return patches


def laplacian_pyramid(images, num_levels):
    """float [N,3,H,W] -> bands, finest first: each level less what its halved version keeps; the last one as it is."""
    bands = []
    for _ in range(num_levels - 1):
        half = _halve(images)
        bands.append(images - _double(half, images.shape[2:]))
        images = half
    return [*bands, images]


def _levels(height, width):
    """Shorter sides of the pyramid's levels, finest first: the image's own, and halves that are not below 16."""
    if min(height, width) < PATCH:
        raise ValueError(f"images of {height}x{width} are smaller than a patch of {PATCH}x{PATCH}")
    levels = [min(height, width)]
    while (levels[-1] + 1) // 2 >= SMALLEST_LEVEL:
        levels.append((levels[-1] + 1) // 2)
    return levels


def _descriptors(patches):
    """Patches [P,3,7,7] normalised to mean 0 and deviation 1 per channel over the set, as vectors [P,147]."""
    deviation, mean = torch.std_mean(patches, dim=(0, 2, 3), keepdim=True)
    # A hundredth of a grey level: what varies less is rounding (blank images), and is not blown up to deviation 1.
    return ((patches - mean) / deviation.clamp(min=1e-2)).flatten(1)


def _blur(images):
    """Binomial 5x5 filter (Burt & Adelson 1983), mirrored at the border."""
    height, width = images.shape[2:]
    images = F.pad(images, (2, 2, 2, 2), mode="reflect")  # [N,3,H+4,W+4]
    # Sums of shifted views: on the CPU several times faster than a convolution with one channel.
    images = sum(tap * images[:, :, i : i + height] for i, tap in enumerate(BINOMIAL))  # [N,3,H,W+4]
    return sum(tap * images[:, :, :, i : i + width] for i, tap in enumerate(BINOMIAL))  # [N,3,H,W]


def _halve(images):
    return _blur(images)[:, :, ::2, ::2]


def _double(images, size):
    """Enlarges to `size`, twice as large up to an odd pixel: zeros between pixels, blurred, times 4 for the zeros."""
    spread = images.new_zeros(*images.shape[:2], *size)
    spread[:, :, ::2, ::2] = images
    return 4 * _blur(spread)
