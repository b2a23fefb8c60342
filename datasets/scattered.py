"""Ids that are no classes: what is left of labels that were once saved as JPEG, or resized with interpolation.

Both leave values between and around the ids, in single pixels along the borders of areas. Of a class that somebody
drew, however thin or rare, most pixels are part of a shape: of a 2x2 square, or of three in a row. In CamVid and in
toy_street at 32x64 that is 43 % or more of the thinnest class; of what JPEG leaves, some ids are far below a third.
"""

from __future__ import annotations

import numpy as np

LEAST_IN_SHAPES = 1 / 3


def count_ids(ids: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
    """ids uint8 [H,W] -> int64 [2,256]: how many pixels have each id, and how many of these are part of a shape

    but: pixels that do not count bool [H,W]
    """
    in_shape = np.zeros(ids.shape, bool)
    down, right = ids[1:] == ids[:-1], ids[:, 1:] == ids[:, :-1]  # is the pixel as the one below, the one to the right?
    squares = down[:, 1:] & down[:, :-1] & right[1:] & right[:-1]
    for shape, (height, width) in (
        (squares, (2, 2)),
        (down[1:] & down[:-1], (3, 1)),
        (right[:, 1:] & right[:, :-1], (1, 3)),
    ):
        for y, x in np.ndindex(height, width):
            in_shape[y : y + shape.shape[0], x : x + shape.shape[1]] |= shape
    counted = np.ones(ids.shape, bool) if but is None else ~but
    return np.stack([np.bincount(ids[mask], minlength=256) for mask in (counted, counted & in_shape)])


def scattered_ids(counts: np.ndarray) -> list[int]:
    """The ids that are no classes, by the sum of count_ids over all labels."""
    pixels, in_shapes = counts
    return np.flatnonzero((pixels > 0) & (in_shapes < LEAST_IN_SHAPES * pixels)).tolist()


def describe_scattered(counts: np.ndarray) -> str | None:
    """One sentence about them, if there are some."""
    scattered = scattered_ids(counts)
    if not scattered:
        return None
    rarest = sorted(scattered, key=lambda i: counts[0, i])[:5]
    some = ", ".join(f"{i} ({counts[0, i]} pixels)" for i in rarest)
    return (
        f"{len(scattered)} of {np.count_nonzero(counts[0])} ids have single scattered pixels, as {some}: labels that "
        "were once saved as JPEG or resized with interpolation look so; make them again, or give a table of the true "
        'classes whose "unlisted" is "ignored", which fills such pixels from their neighbours'
    )
