"""Real images that scores compare with, and their features, which are computed once and kept."""

import contextlib
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from datasets.reader import in_order
from SPADE.metrics.features import Extractor

FORMAT = 1  # counts up when features of the same images by the same network come to be other numbers


def real_images(split, num: int, height: int | None = None):
    """The first images of a split, never flipped nor cropped at random: uint8 [min(num, n),3,h,w]."""
    num = min(num, len(split))
    return torch.cat([in_order(split, i, min(i + 64, num), height)[0] for i in range(0, num, 64)])


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sbgan" / "reference_features"


def cache_key(store, split_name: str, num: int, height: int, extractor: Extractor) -> str:
    """Of all that the features depend on."""
    split = store[split_name]
    facts = {
        "images": [store.name, split_name, split.height, split.width, split.names[:num], split.crc32[:num]],
        "height": height,
        "network": extractor.digest,
        "versions": [FORMAT, version("torch-fidelity") if extractor.standard else None, torch.__version__],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def real_features(store, split_name: str, images, extractor: Extractor, device):
    """Features [n,D] of the first n images of a split, which are given: uint8 [n,3,h,w]."""
    file = cache_folder() / f"{cache_key(store, split_name, len(images), images.shape[2], extractor)}.npy"
    try:
        found = torch.from_numpy(np.load(file, allow_pickle=False))
        if found.ndim == 2 and len(found) == len(images):
            return found
    except (OSError, ValueError):  # not there, or damaged
        pass
    features = extractor.features(images, device)
    keep(features.numpy(), file)
    return features


def keep(features, file: Path):
    """A cache that cannot be written is said and no more."""
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.npy")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(temporary, features)
        os.replace(temporary, file)
    except OSError as error:
        print(f"reference features are not kept for the next time: {file.parent}: {error.strerror}")
        with contextlib.suppress(OSError):
            temporary.unlink()
