"""Feature networks: uint8 images -> vectors. The Inception of the standard FID, or any network that a user names."""

import contextlib
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.disk import sha256
from datasets.errors import UserError
from SPADE.evaluation.fidelity import extract_features, inception_network


@dataclass(frozen=True)
class Extractor:
    """A file that holds a feature network; what it holds is loaded when the first images are to be looked at."""

    path: Path
    standard: bool  # the Inception of the standard FID; numbers of any other network are never called FID or KID

    @functools.cached_property
    def digest(self) -> str:
        return sha256(self.path)[:16]

    def features(self, images, device="cpu", batch_size: int = 32):
        """uint8 [N,3,H,W] -> float32 [N,D] on the CPU, computed in full float32."""
        with full_precision():
            return extract_features(load_network(self.path, self.standard, str(device)), images, batch_size, device)


def with_features(draw, extractor: Extractor | None, device):
    """draw: numbers -> {"images", ...}. The same with "features" of the images, unless there is no extractor."""

    def drawn(numbers):
        rows = draw(numbers)
        return rows | {"features": extractor.features(rows["images"], device)} if extractor else rows

    return drawn


@functools.lru_cache(maxsize=1)
def load_network(path: Path, standard: bool, device: str):
    return inception_network(path, device) if standard else users_network(path, device)


def users_network(path: Path, device: str):
    """TorchScript, or (*.pt2) a program that torch.export saved: uint8 [n,3,H,W] -> [n,D]."""
    try:
        if path.suffix == ".pt2":
            network = torch.export.load(path).module().to(device)
        else:
            with warnings.catch_warnings():  # TorchScript is deprecated, and is what feature networks are shared in
                warnings.simplefilter("ignore")
                network = torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:  # whatever such a file can raise
        raise UserError(
            f"--feature_extractor {path} can be loaded neither as TorchScript nor, with the ending .pt2, as a program "
            f"of torch.export ({first_line(error)}); save the network in one of these forms"
        ) from error

    def features(images):
        try:
            found = network(images)
        except Exception as error:
            raise UserError(
                f"--feature_extractor {path} fails on uint8 images {list(images.shape)} ({first_line(error)}); "
                "it must take uint8 [N,3,H,W] for every N and give [N,D]"
            ) from error
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        if not isinstance(shape, list) or len(shape) != 2 or shape[0] != len(images):
            raise UserError(f"--feature_extractor {path} gives {shape} for {len(images)} images; it must give [N,D]")
        if not found.isfinite().all():
            raise UserError(f"--feature_extractor {path} gives features that are not finite; mend the network")
        return found

    return features


def first_line(error) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__)[:160]


@contextlib.contextmanager
def full_precision():
    """No TF32: it moves FID in the third digit between GPUs."""
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = cudnn, matmul


def mean_distance(features, most: int = 2048) -> float:
    """Mean Euclidean distance between two different vectors of a set [N,D] (of its first `most`): its diversity."""
    features = features[:most].double()
    return (torch.pdist(features).mean()).item()


def small_pixels(images, height: int = 16):
    """uint8 [N,3,H,W] -> float [N,D] in [0,1]: pixels averaged to `height` rows, where no feature network is at hand.

    Divided by sqrt(D), so that distances are root mean squares over pixels.
    """
    rows = min(height, images.shape[2])
    columns = max(round(rows * images.shape[3] / images.shape[2]), 1)
    small = [
        torch.nn.functional.adaptive_avg_pool2d(batch.float() / 255, (rows, columns)).flatten(1)
        for batch in images.split(64)
    ]
    small = torch.cat(small)
    return small / small.shape[1] ** 0.5
