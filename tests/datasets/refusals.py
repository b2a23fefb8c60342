"""What a refusal of datasets.prepare must look like, and ways to spoil a file."""

import numpy as np
import pytest
from PIL import Image

from datasets.errors import UserError
from datasets.packed import open_store
from datasets.prepare import main

SMALL = ("--height", "8", "--width", "16", "--workers", "1")
SQUARE = ("--height", "8", "--width", "8", "--workers", "1")


def expect_refusal(capsys, arguments, out, *words):
    """Ends with status 2 and one line on stderr that has these words; neither a store nor a part of one remains."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(out)])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for word in words:
        assert word in lines[0]
    assert_no_store(out)


def assert_no_store(out):
    assert not out.exists()
    assert not out.with_name(f".{out.name}.partial").exists()
    with pytest.raises(UserError):
        open_store(out)


def resave(path, convert):
    convert(Image.open(path)).save(path)


def one_pixel(path, value):
    pixels = np.array(Image.open(path))
    pixels[3, 5] = value
    Image.fromarray(pixels).save(path)
