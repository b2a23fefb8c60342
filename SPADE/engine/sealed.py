"""Files that know whether they are whole: a trailer with length and SHA-256 behind what was written.

    content | magic 8 bytes | position u64 | length of the content u64 | SHA-256 of all before it

`position` is a number to sort files by without reading them; checkpoints put the images seen there.
"""

import hashlib
import struct
from pathlib import Path

from datasets.disk import replacing

MAGIC = b"SBGANend"
HEAD = struct.Struct("<8sQQ")
TRAILER = HEAD.size + hashlib.sha256().digest_size


class Damaged(Exception):
    """Says what is wrong with a file."""


class HashedFile:
    """A file opened for writing that keeps the SHA-256 and the length of what went through it."""

    def __init__(self, file):
        self.file, self.hash, self.length = file, hashlib.sha256(), 0
        self.error = None  # what a write failed with; torch.save raises another error instead

    def write(self, data) -> int:
        self.hash.update(data)
        self.length += memoryview(data).nbytes
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self):
        self.file.flush()


def write(path: Path, position: int, fill):
    """fill(file) writes the content. The file appears under its name when it is whole and on the disk, or not at all.

    Any error leaves what was there before, and nothing else.
    """
    with replacing(path, durable=True) as temporary, open(temporary, "wb") as file:
        hashed = HashedFile(file)
        try:
            fill(hashed)
        except Exception as error:
            raise hashed.error or error from None
        head = HEAD.pack(MAGIC, position, hashed.length)
        hashed.hash.update(head)
        file.write(head + hashed.hash.digest())


def position(path: Path) -> int:
    """What the trailer says, after a look at the length alone. Raises Damaged."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(size - TRAILER, 0))
        trailer = file.read()
    if len(trailer) < TRAILER or not trailer.startswith(MAGIC):
        raise Damaged("its end is missing")
    _, found, length = HEAD.unpack(trailer[: HEAD.size])
    if length + TRAILER != size:
        raise Damaged(f"it has {size} bytes instead of {length + TRAILER}")
    return found


def verify(path: Path) -> int:
    """Reads the whole file; returns its position. Raises Damaged."""
    found, rest = position(path), path.stat().st_size - TRAILER + HEAD.size
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while rest:
            block = file.read(min(rest, 1 << 20))
            if not block:
                raise Damaged("it ends too early")
            digest.update(block)
            rest -= len(block)
        if file.read() != digest.digest():
            raise Damaged("its checksum differs")
    return found
