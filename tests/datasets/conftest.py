import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def place():
    """A directory that anybody may enter, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="bad input "))  # a path with spaces
    directory.chmod(0o777)
    yield directory
    for parent, folders, _ in os.walk(directory):  # which enters them after this
        for name in folders:
            Path(parent, name).chmod(0o777)
    shutil.rmtree(directory)
