"""Files that are whole or not there, what the system says against them, and what tells them apart."""

import contextlib
import hashlib
import os
from pathlib import Path

from datasets.errors import UserError


@contextlib.contextmanager
def replacing(path: str | Path, durable: bool = False, shared: bool = False, ending: str | None = None):
    """Yields a name beside `path` to write to. Without an error that file takes the place of `path`, else it goes.

    durable: on the disk before it does so, and the new name too; shared: several processes may write this file at once.
    ending: of that name; by default that of `path`, because libraries take from it what to write.
    """
    path = Path(path)
    own = f"{os.getpid()}." if shared else ""
    temporary = path.with_name(f".{path.stem}.{own}partial{path.suffix if ending is None else ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)  # a rename is on the disk when its folder is
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(path: str | Path, remedy: str):
    """Turns what the system says against writing `path` into one sentence, which ends with what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); {remedy}") from error


def sha256(path: Path) -> str:
    """64 hex digits of a file's content"""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
