"""Reads uint8 batches from a packed store. Order, flips and crops are a pure function of (seed, images seen, rank)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from datasets.errors import UserError
from datasets.packed import Split

# Streams of random numbers that share a seed. A change of these numbers changes every training run.
ORDER, FLIP, TOP, LEFT = range(4)


def random_bits(seed: int, stream: int, counters: np.ndarray) -> np.ndarray:
    """uint64 [K] from integers [K]: number `counter` of a stream, without drawing those before it.

    SplitMix64 (Steele, Lea, Flood 2014), which is a hash of its counter. NumPy's generators promise neither this
    nor the same numbers in their next release.
    """
    golden = np.array([0x9E3779B97F4A7C15], np.uint64)  # an array, because NumPy warns when scalars wrap
    key = _mix(_mix(np.array([seed & (2**64 - 1)], np.uint64)) + golden * np.uint64(stream))
    return _mix(key + golden * counters.astype(np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Draws:
    """The images that a batch is made of, and how each is flipped and cropped; arrays of one length."""

    index: np.ndarray
    flip: np.ndarray
    top_bits: np.ndarray
    left_bits: np.ndarray


class Reader:
    """Training batches of a split. Draw number k = 0, 1, 2, ... is place k % n of the shuffled epoch k // n, where an
    epoch holds every image as often as its weight says; the batch at `images_seen` is the draws from there on, and
    rank r of `world_size` gets the r-th part of it."""

    def __init__(self, split: Split, seed: int, rank: int = 0, world_size: int = 1, flip: bool = True):
        self.split = split
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.flip = flip
        self._deck = np.repeat(np.arange(len(split)), split.weights)  # one epoch, not shuffled
        self._shuffled: dict[int, np.ndarray] = {}

    def layouts(self, images_seen: int, batch_size: int, height: int) -> torch.Tensor:
        """train ids uint8 [batch_size / world_size, 1, height, aspect * height], nearest-sampled"""
        draws = self.draws(images_seen, batch_size)
        out = np.empty((len(draws.index), 1, height, self.split.aspect * height), np.uint8)
        for row, index, window in self._windows(draws):
            out[row, 0] = sample_nearest(self.split.layout(index)[window], *out.shape[2:])
        return torch.from_numpy(out)

    def pairs(self, images_seen: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """images uint8 [b,3,H,W], train ids uint8 [b,1,H,W], b = batch_size / world_size; cropped and flipped alike"""
        draws = self.draws(images_seen, batch_size)
        size = (self.split.height, self.split.width)
        images = np.empty((len(draws.index), 3, *size), np.uint8)
        labels = np.empty((len(draws.index), 1, *size), np.uint8)
        for row, index, window in self._windows(draws):
            images[row] = self.split.image(index)[(..., *window)]
            labels[row, 0] = self.split.layout(index)[window]
        return torch.from_numpy(images), torch.from_numpy(labels)

    def draws(self, images_seen: int, batch_size: int) -> Draws:
        """The part of this rank in the batch of draws images_seen .. images_seen + batch_size - 1."""
        self._check(batch_size)
        share = batch_size // self.world_size
        first = images_seen + self.rank * share
        k = np.arange(first, first + share)
        flip = random_bits(self.seed, FLIP, k) >> np.uint64(63) if self.flip else np.zeros(share)
        return Draws(
            index=np.array([self._order(i // len(self._deck))[i % len(self._deck)] for i in k.tolist()]),
            flip=flip.astype(bool),
            top_bits=random_bits(self.seed, TOP, k),
            left_bits=random_bits(self.seed, LEFT, k),
        )

    def _windows(self, draws: Draws):
        """Yields (row of the batch, image number, (rows, columns) to cut out; a flip runs the columns backwards)."""
        height, width = self.split.height, self.split.width
        for row, index in enumerate(draws.index.tolist()):
            stored_height, stored_width = self.split.size(index)
            top = int(draws.top_bits[row]) % (stored_height - height + 1)
            left = int(draws.left_bits[row]) % (stored_width - width + 1)
            yield row, index, _window(top, left, height, width, draws.flip[row])

    def _order(self, epoch: int) -> np.ndarray:
        """Image numbers of an epoch: the deck, sorted by random keys."""
        if epoch not in self._shuffled:
            size = len(self._deck)
            keys = random_bits(self.seed, ORDER, np.arange(epoch * size, (epoch + 1) * size))
            previous = {e: order for e, order in self._shuffled.items() if e == epoch - 1}  # a batch may straddle two
            self._shuffled = {**previous, epoch: self._deck[np.argsort(keys, kind="stable")]}
        return self._shuffled[epoch]

    def _check(self, batch_size: int) -> None:
        if batch_size < 1 or batch_size % self.world_size:
            raise UserError(
                f"--batch_size {batch_size}: not divisible by {self.world_size} processes; it is the total over all"
            )
        if batch_size > len(self.split):
            raise UserError(
                f"--batch_size {batch_size}: larger than the split '{self.split.name}' "
                f"with {len(self.split)} images; use at most {len(self.split)}"
            )


def in_order(split: Split, start: int, stop: int, height: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs start .. stop-1 for evaluation, never flipped, central crop: images uint8 [n,3,h,w], train ids [n,1,h,w].

    At a smaller height than the store's, images are averaged over blocks and labels nearest-sampled.
    """
    height = height or split.height
    images = [_block_mean(split.image(i)[(..., *_centre(split, i))], height) for i in _numbers(split, start, stop)]
    return torch.from_numpy(np.stack(images)), layouts_in_order(split, start, stop, height)


def layouts_in_order(split: Split, start: int, stop: int, height: int) -> torch.Tensor:
    """The train ids of `in_order` alone: uint8 [n,1,height,aspect*height]"""
    size = (height, split.aspect * height)
    layouts = [sample_nearest(split.layout(i)[_centre(split, i)], *size) for i in _numbers(split, start, stop)]
    return torch.from_numpy(np.stack(layouts)[:, None])


def sample_nearest(layout: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H,W] -> [height,width]: pixel floor(i * H / height) for row i, as PyTorch's `nearest` does; columns alike."""
    full_height, full_width = layout.shape
    if full_height % height == 0 and full_width % width == 0:
        return layout[:: full_height // height, :: full_width // width]
    rows = np.arange(height) * full_height // height
    columns = np.arange(width) * full_width // width
    return layout[np.ix_(rows, columns)]


def _block_mean(image: np.ndarray, height: int) -> np.ndarray:
    """uint8 [3,H,W] -> uint8 [3,height,W*height/H]"""
    side = image.shape[1] // height
    if side == 1:
        return image
    blocks = image.reshape(3, height, side, -1, side)
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)


def _numbers(split: Split, start: int, stop: int) -> range:
    if not 0 <= start < min(stop, len(split)):
        raise ValueError(f"images {start} to {stop} of a split of {len(split)}")
    return range(start, min(stop, len(split)))


def _centre(split: Split, i: int) -> tuple[slice, slice]:
    stored_height, stored_width = split.size(i)
    height, width = split.height, split.width
    return _window((stored_height - height) // 2, (stored_width - width) // 2, height, width, flip=False)


def _window(top: int, left: int, height: int, width: int, flip: bool) -> tuple[slice, slice]:
    columns = slice(left, left + width)
    if flip:  # backwards; a stop of -1 would mean the last column, so the first one is reached with None
        columns = slice(left + width - 1, left - 1 if left else None, -1)
    return slice(top, top + height), columns
