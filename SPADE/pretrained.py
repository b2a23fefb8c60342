"""Finds pretrained networks: a path that was given, else PyTorch's download cache, else a download into it.

A published file carries the first digits of its SHA-256 in its name (vgg19-dcbb9e9d.pth), so a truncated or exchanged
file is noticed.

`from SPADE.pretrained import torchvision` works where a plain import may fail. The torchvision wheel on PyPI is
compiled against a CUDA build of PyTorch. Beside a CPU-only build its compiled operators do not load. torchvision lets
that pass at first, but while it imports it registers shape rules for two of them, and stops: "operator torchvision::nms
does not exist". Only Python parts of it are used here (VGG-19, and what torch-fidelity imports), so declaring the two
operators, without kernels, is all it takes; calling one still fails.

Whatever imports torchvision itself (torch-fidelity does) must be imported after that.
"""

import http.client
import pickle
import re
import urllib.request
from pathlib import Path

import torch
from tqdm import tqdm

from datasets.errors import UserError
from datasets.files import replacing, sha256
from SPADE.engine.distributed import from_first, rank

try:
    import torchvision
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # The declarations live as long as this object does.
    _declarations = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _declarations.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

# isort: split
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

TIMEOUT_S = 10  # for the connection and for each piece of the download; without a network it fails at once


def vgg19_weights(path=None):
    """Path of torchvision's VGG-19, for the perceptual loss; `path`: a file to take instead of cache or download."""
    url = torchvision.models.VGG19_Weights.IMAGENET1K_V1.url
    return find_weights(url, path, without="pass --no_vgg_loss to train without it")


def inception_weights(path=None):
    """Path of the Inception of the standard FID (ported from TensorFlow); `path` as above."""
    return find_weights(URL_INCEPTION_V3, path, without="without it FID, KID, precision and recall are left out")


def find_weights(url, path, without):
    """Path of the file at `url`, found or downloaded and checked; `without` ends the error: how to go on without it.

    All processes call it: the first one goes ahead, and the others find what it has downloaded.
    """
    found = from_first(_find_weights, url, path, without)
    return found if rank() == 0 else _find_weights(url, path, without)


def _find_weights(url, path, without):
    name = url.rsplit("/", 1)[-1]
    if path is not None:
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path} is no file; wanted are the weights {name}, published at {url}; {without}")
        _check_hash(path)
        return path

    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if str(cache).startswith("~"):  # PyTorch would make a folder of this name
        raise UserError(
            f"{name} is kept in the home directory, but there is none: set HOME or TORCH_HOME, or {without}"
        )
    # The same file goes about under several names (pt_inception-..., weights-inception-...) with one hash at the end.
    cached = sorted(cache.glob(f"*-{_hash_in_name(name)}.pth"))
    if cached:
        _check_hash(cached[0])
        return cached[0]
    try:
        _download(url, cache / name)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{name} is not in {cache} and could not be downloaded from {url} ({error}): "
            f"put the file there, or {without}"
        ) from error
    return cache / name


def load_weights(path):
    """The state dict in a file of weights, on the CPU."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises anything: EOFError, UnpicklingError, RuntimeError, KeyError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # whose message tells how to run what is in the file
            reason = "it is damaged, or holds more than tensors, which is not loaded"
        raise UserError(f"{path} is no readable file of PyTorch weights ({reason}): replace it") from error


def _hash_in_name(name):
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    return found.group(1) if found else ""


def _check_hash(path):
    """Files without a hash in their name (a person's own) pass: what is in them shows when they are loaded."""
    wanted = _hash_in_name(path.name)
    found = sha256(path)
    if not found.startswith(wanted):
        raise UserError(
            f"{path} has SHA-256 {found[: len(wanted)]}..., wanted {wanted}... as in its name (it is truncated or "
            "another file): delete or replace it"
        )


def _download(url, target):
    with (
        replacing(target, shared=True) as partial,
        urllib.request.urlopen(url, timeout=TIMEOUT_S) as response,
        open(partial, "wb") as file,
    ):
        size = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=target.name) as bar:
            while piece := response.read(1 << 20):
                file.write(piece)
                bar.update(len(piece))
        file.flush()
        found, wanted = sha256(partial), _hash_in_name(target.name)
        if not found.startswith(wanted):
            raise UserError(f"{url} gave a file with SHA-256 {found[:8]}..., wanted {wanted}...: try again later")
