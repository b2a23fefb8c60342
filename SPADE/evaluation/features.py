"""Feature networks: uint8 images -> vectors. The Inception of the standard FID, or any network that a user names."""

import contextlib
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from datasets.files import sha256
from SPADE.engine.config import harmless, require
from SPADE.engine.distributed import rank
from SPADE.pretrained import (
    inception_weights,
    load_weights,
    torchvision,  # noqa: F401 (torch-fidelity imports it, so it comes first)
)

# isort: split
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Flags of programs that score images, in training or after it."""

    num_eval: int = harmless(500, "images of a score", at_least=2)
    inception_weights: str | None = harmless(None, "file of the FID Inception; default: cache, else download")
    feature_extractor: str | None = harmless(
        None, "TorchScript or .pt2, uint8 [N,3,H,W] -> [N,D], instead of Inception"
    )
    fid: bool = harmless(
        True,
        "compute FID, KID, precision, recall (--no_fid: do not; --feature_extractor is asked still)",
    )


@dataclass(frozen=True)
class Extractor:
    """The file of a feature network, which is loaded when the first images are to be looked at."""

    path: Path
    standard: bool  # the Inception of the standard FID; numbers of any other network are never called FID or KID

    @functools.cached_property
    def digest(self) -> str:
        return sha256(self.path)[:16]

    @property
    def described(self) -> str:
        return f"{self.path.name} (SHA-256 {self.digest[:8]})"

    def features(self, images, device="cpu", batch_size: int = 32):
        """uint8 [N,3,H,W] -> float32 [N,D] on the CPU, computed in full float32."""
        with full_precision():
            return extract_features(load_network(self.path, self.standard, str(device)), images, batch_size, device)


def find_extractor(config: ImageScores, height: int, width: int, device):
    """Finds the feature network that the flags ask for: (network, None), or (None, the reason), which is printed.

    A file that was named must be there; where nothing was named and no weights can be had, FID is left out. The network
    sees a blank image of the given size, so that one that fails does so before hours of training or drawing.
    """
    extractor, left_out = None, "--no_fid was given"
    if config.feature_extractor is not None:
        path = Path(config.feature_extractor)
        require(path.is_file(), "feature_extractor", path, "a file", "name a feature network's file")
        extractor = Extractor(path, standard=False)
    elif config.fid:
        try:
            extractor = Extractor(Path(inception_weights(config.inception_weights)), standard=True)
        except UserError as error:
            if config.inception_weights:
                raise
            left_out = str(error)
    if extractor:
        extractor.features(torch.zeros(1, 3, height, width, dtype=torch.uint8), device)
        return extractor, None
    if rank() == 0:
        print(f"FID is left out of the scores: {left_out}")
    return None, left_out


@functools.lru_cache(maxsize=1)
def load_network(path: Path, standard: bool, device: str):
    return inception_network(path, device) if standard else users_network(path, device)


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


def load_program(path: Path, device: str, flag: str):
    """The network in a file of TorchScript, or (*.pt2) of torch.export, on the device; flag: what named the file."""
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module().to(device)
        with warnings.catch_warnings():  # TorchScript is deprecated, and is what such networks are shared in
            warnings.simplefilter("ignore")
            return torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:  # whatever such a file can raise
        raise UserError(
            f"--{flag} {path} can be loaded neither as TorchScript nor, with the ending .pt2, as a program "
            f"of torch.export ({first_line(error)}); save the network in one of these forms"
        ) from error


def users_network(path: Path, device: str):
    """A feature network in a user's file: uint8 [n,3,H,W] -> [n,D]."""
    network = load_program(path, device, "feature_extractor")

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
    """Computes without TF32: it would move FID in the third digit from GPU to GPU."""
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = cudnn, matmul


@torch.inference_mode()
def extract_features(network, images, batch_size=32, device="cpu"):
    """images uint8 [N,3,H,W] through any network [n,3,H,W] -> [n,D]: float32 [N,D] on the CPU."""
    return torch.cat([network(batch.to(device)).float().cpu() for batch in images.split(batch_size)])


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
