"""Constraints for pip that keep the PyTorch and torchvision that are installed; nothing where there is no PyTorch.

They may be a CUDA build that somebody chose with care, and pip would replace it without a word. What does not fit is
refused with exit status 2, and stays, too.
"""

import re
import sys
from importlib import metadata

OLDEST = (2, 9)


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """ "2.11.0+cu128" -> (2, 11, 0)"""
    return tuple(int(number) for number in re.match(r"\d+(\.\d+)*", version).group().split("."))


def torch_wanted_by_torchvision() -> str | None:
    """The release that torchvision was compiled for, where its metadata say so."""
    for requirement in metadata.requires("torchvision") or []:
        exact = re.match(r"torch\s*\(?==\s*([\w.]+)", requirement)
        if exact:
            return exact.group(1)
    return None


def constraints() -> list[str]:
    torch, torchvision = installed("torch"), installed("torchvision")
    if torch is None:
        return []
    if release(torch) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        refuse(f"PyTorch is {torch}, but must be {oldest} or newer; install a newer torch and torchvision")
    if torchvision is None:
        return [f"torch=={torch}"]
    wanted = torch_wanted_by_torchvision()
    if wanted and release(wanted) != release(torch):
        refuse(
            f"torchvision {torchvision} is compiled for PyTorch {wanted}, but PyTorch is {torch}; "
            "install the torchvision of that release"
        )
    return [f"torch=={torch}", f"torchvision=={torchvision}"]


def refuse(sentence: str):
    print(f"error: {sys.prefix}: {sentence}, or activate another environment", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    print(*constraints(), sep="\n")
