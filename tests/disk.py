"""A disk that is full, as the kernel gives it to this process alone."""

import contextlib
import resource


@contextlib.contextmanager
def files_up_to(size: int):
    """Writing a file beyond `size` bytes fails with an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
