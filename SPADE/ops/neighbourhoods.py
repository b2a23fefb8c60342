"""The distinct label neighbourhoods of a batch of layouts: modulations are computed once for each, then gathered.

Two 3x3 convolutions with a ReLU between them see 5x5 labels. Layouts are piecewise constant, so few 5x5
neighbourhoods are distinct (in a street scene at 256x512, 7 % of the pixels' number), and fewer 3x3 ones (2 %).
Nothing is approximated and nothing hashed: ids are ranks of keys that are equal for equal neighbourhoods only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F

CHUNK_PIXELS = 4096  # a chunk of 128 float32 channels is 2 MiB, so that what is made from it is still in the cache
PATCH_COST, PART_COST = 40, 40


def compress(keys):
    """Integers of any shape -> their ranks among the distinct values, int64 of that shape, and the number of these.

    Equal neighbours are merged first: the sort that follows then has a tenth of the work on a piecewise constant map.
    """
    runs, run_of = torch.unique_consecutive(keys.flatten(), return_inverse=True)
    values, rank_of = torch.unique(runs, return_inverse=True)
    return rank_of[run_of].view(keys.shape), len(values)


def distinct(columns, count: int):
    """Ids of distinct tuples, and how many there are. columns: integer tensors of one shape, in 0 .. count-1."""
    key, bound = columns[0].long(), count
    for column in columns[1:]:
        if bound * count >= 2**63:
            key, bound = compress(key)
        key, bound = key * count + column, bound * count
    return compress(key)


def one_place_of_each(ids, count: int):
    """ids [P] in 0 .. count-1, each occurring -> [count], a position at which each occurs."""
    return ids.new_empty(count).scatter_(0, ids, torch.arange(len(ids), device=ids.device))


def windows(x, height: int, width: int, step: int, side: int):
    """x [N,H,W] -> side^2 views [N,height,width], row by row, shifted by multiples of step."""
    return [x[:, i * step :, j * step :][:, :height, :width] for i in range(side) for j in range(side)]


def window_at(x, positions, height: int, width: int):
    """Values of 3x3 windows: x [N,height+2,width+2]; positions [M] of their centres in [N,height,width] -> [M,9]."""
    image, rest = positions // (height * width), positions % (height * width)
    corner = (image * (height + 2) + rest // width) * (width + 2) + rest % width  # [M], into x, flat
    offsets = torch.arange(3, device=x.device)[:, None] * (width + 2) + torch.arange(3, device=x.device)  # [3,3]
    return x.flatten()[corner[:, None] + offsets.flatten()]


@dataclass(frozen=True)
class Bags:
    """Lists of row numbers, one after another: bag i is rows[starts[i] : starts[i + 1]]."""

    rows: torch.Tensor  # int64 [sum of lengths]
    starts: torch.Tensor  # int64 [number of bags + 1], from 0

    def sum(self, values):
        """values [R,K] -> [number of bags, K], the sum of each bag's rows."""
        return F.embedding_bag(self.rows, values, self.starts, mode="sum", include_last_offset=True)


def bags_of_each(ids, count: int) -> Bags:
    """ids [P] -> for each of 0 .. count-1 the positions that have it."""
    starts = F.pad(torch.bincount(ids, minlength=count).cumsum(0), (1, 0))
    return Bags(ids.argsort(stable=True), starts)


@dataclass(frozen=True)
class Neighbourhoods:
    """T distinct 3x3 and U distinct 5x5 neighbourhoods of labels [N,h,w], all pixels of the batch together.

    Outside of the image lies a class of its own. A 3x3 neighbourhood is also listed for each position one step outside,
    where the second convolution sees zeros, not what the first one would give.
    """

    num_classes: int
    shape: tuple[int, int, int]  # N, h, w
    patches: torch.Tensor  # int64 [T,9]: labels, num_classes where they lie outside
    parts: torch.Tensor  # int64 [U,9]: the 3x3 neighbourhoods around a pixel and its eight neighbours, in 0 .. T-1
    index: torch.Tensor  # int64 [N*h*w]: the 5x5 neighbourhood of each pixel, in 0 .. U-1

    @functools.cached_property
    def inside(self):
        """bool [T,1]: does the centre lie in the image?"""
        return self.patches[:, 4:5] < self.num_classes

    @functools.cached_property
    def one_hot(self):
        """float [T,C*9], ordered as the weight of a convolution [out,C,3,3] is."""
        empty = torch.zeros(len(self.patches), self.num_classes + 1, 9, device=self.patches.device)
        return empty.scatter_(1, self.patches[:, None], 1.0)[:, : self.num_classes].flatten(1)

    @functools.cached_property
    def part_rows(self) -> Bags:
        """Nine rows for each 5x5 neighbourhood, of a table [T*9,...] whose row 9 t + k belongs to part k being t."""
        places = torch.arange(9, device=self.parts.device)
        starts = torch.arange(0, self.parts.numel() + 1, 9, device=self.parts.device)
        return Bags((self.parts * 9 + places).flatten(), starts)

    @functools.cached_property
    def part_owners(self) -> Bags:
        """The other way round: for each row of that table the 5x5 neighbourhoods that contain it."""
        owners = bags_of_each(self.part_rows.rows, 9 * len(self.patches))
        return Bags(owners.rows // 9, owners.starts)

    @functools.cached_property
    def bags(self) -> tuple[list[tuple[int, int, Bags]], Bags]:
        """The pixels of each neighbourhood, in two stages: within chunks of pixels, then all over the batch.

        First stage: for each chunk its bags, one for each neighbourhood that occurs in it, rows counted from the
        chunk's first pixel; with the first and last + 1 of their numbers among all chunks' bags. Second stage: for each
        neighbourhood the numbers of its bags.
        """
        pixels, count = len(self.index), len(self.parts)
        size = min(chunk_pixels(self.shape[2], self.index.device), pixels)
        keys = torch.arange(pixels, device=self.index.device) // size * count + self.index  # chunk, neighbourhood
        keys, order = keys.sort(stable=True)
        keys, lengths = torch.unique_consecutive(keys, return_counts=True)  # one for each bag
        starts = F.pad(lengths.cumsum(0), (1, 0))
        edges = torch.arange(0, pixels + size, size, device=keys.device)  # of chunks; the last is at or behind the end
        edge_keys = edges // size * count
        first_bags = torch.searchsorted(keys, edge_keys).tolist()
        stages = []
        for i, (first, last) in enumerate(zip(first_bags, first_bags[1:], strict=False)):
            rows = order[i * size : (i + 1) * size] - i * size
            stages.append((first, last, Bags(rows, starts[first : last + 1] - i * size)))
        return stages, bags_of_each(keys % count, count)


def chunk_pixels(width: int, device) -> int:
    """Pixels of an image of this width to be handled together, whole pairs of rows.

    On a CPU few enough for its cache; on a GPU all, since each chunk costs a dozen launches.
    """
    return max(CHUNK_PIXELS // (2 * width), 1) * 2 * width if device.type == "cpu" else 2**31 // (2 * width) * 2 * width


def find_patches(labels, num_classes: int):
    """labels uint8 [N,h,w] -> padded labels [N,h+4,w+4], 3x3 neighbourhood of each position [N,h+2,w+2], their number.

    The positions are the image's pixels and one step around it.
    """
    n, h, w = labels.shape
    padded = F.pad(labels.short(), (2, 2, 2, 2), value=num_classes)
    return padded, *distinct(windows(padded, h + 2, w + 2, 1, 3), num_classes + 1)


def neighbourhoods_of(labels, num_classes: int, hidden: int) -> Neighbourhoods | None:
    """The distinct neighbourhoods of labels uint8 [N,1,h,w], or None where the convolutions themselves cost less.

    hidden: channels between the two convolutions.
    """
    labels = labels[:, 0]
    n, h, w = labels.shape
    padded, patch_of, num_patches = find_patches(labels, num_classes)
    if not worthwhile(labels, num_patches, 0, hidden):
        return None
    # The 3x3 neighbourhoods two steps apart, four of them, cover 5x5 labels.
    index, count = distinct(windows(patch_of, h, w, 2, 2), num_patches)
    if not worthwhile(labels, num_patches, count, hidden):
        return None
    patches = window_at(padded, one_place_of_each(patch_of.flatten(), num_patches), h + 2, w + 2)
    parts = window_at(patch_of, one_place_of_each(index.flatten(), count), h, w)
    return Neighbourhoods(num_classes, (n, h, w), patches.long(), parts, index.flatten())


def worthwhile(labels, num_patches: int, count: int, hidden: int) -> bool:
    """Do T = num_patches and U = count neighbourhoods of labels [N,h,w] cost less than the convolutions?

    In multiply-adds per channel and place: a pixel costs the convolution `hidden`, a 3x3 neighbourhood the same and
    PATCH_COST, since its row of the table is written, and a 5x5 one PART_COST for reading nine such rows. Both were
    fitted to where both forms break even in float32 on a core with AVX-512, forward alone and with backward: CamVid's
    layouts at 4x8 to 256x512 with 0 to 30 % of random labels, 32 and 128 hidden channels. With backward and 128, this
    form is 5 times as fast as the convolutions at T/P 0.04 and U/P 0.17, 1.5 to 2 times at 0.17 and 0.70, 0.7 to 1 at
    0.61 and 1.

    A GPU takes the convolutions unless it is told otherwise. The sizes of a plan depend on the labels, so for each one
    the host would wait for the device six times, which a training step must not do. And a large GPU loses by it at
    batch 1: some twenty launches for each resolution, sorts among them, take longer than the 365 G operations saved
    in an image of 256x512, which are 1 to 2 ms at 200 to 400 T/s. By the same count slower GPUs and whole batches at
    evaluation gain, so that a generator is told where: `neighbourhoods_on`, which SBGAN.benchmark has a flag for.
    """
    cost = num_patches * (hidden + PATCH_COST) + count * PART_COST
    return cost < labels.numel() * hidden


def two_convolutions(layout, first, second):
    """second(relu(first(layout))) for 3x3 convolutions with padding 1: gamma and beta of a layout.

    layout: semantics float [N,C,h,w] -> [N,K,h,w]; or the U distinct neighbourhoods of labels -> [U,K].
    """
    if isinstance(layout, Neighbourhoods):
        return of_neighbourhoods(layout, first, second)
    return second(F.relu(first(layout), inplace=True))


def of_neighbourhoods(neighbourhoods, first, second):
    """A convolution of a patch is a matrix product.

    The second one is done for each 3x3 neighbourhood and each of the nine places that it may have within a 5x5 one, and
    the nine are summed afterwards: T*9 products instead of U*9.
    """
    weight = first.weight.flatten(1)  # [hidden,C*9]
    hidden = F.relu(F.linear(neighbourhoods.one_hot.to(weight), weight, first.bias), inplace=True)  # [T,hidden]
    hidden = hidden * neighbourhoods.inside  # where the second convolution pads, it pads with zeros
    weight = second.weight.permute(2, 3, 0, 1).flatten(0, 2)  # [9*K,hidden]
    table = F.linear(hidden, weight).view(-1, len(second.weight))  # [T*9,K]
    return PartSum.apply(table, neighbourhoods) + second.bias


class PartSum(torch.autograd.Function):
    """table [T*9,K] -> [U,K]: for each 5x5 neighbourhood the sum of its nine parts' rows."""

    @staticmethod
    def forward(ctx, table, neighbourhoods):
        ctx.neighbourhoods = neighbourhoods
        return neighbourhoods.part_rows.sum(table)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return ctx.neighbourhoods.part_owners.sum(gradient.contiguous()), None
