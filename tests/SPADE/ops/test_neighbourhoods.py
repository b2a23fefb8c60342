"""Distinct neighbourhoods against brute force: every pixel's labels cut out one by one."""

import numpy as np
import pytest
import torch

from datasets.reader import layouts_in_order
from SPADE.ops import neighbourhoods
from SPADE.ops.neighbourhoods import bags_of_each, distinct, neighbourhoods_of

GENERATOR = torch.Generator().manual_seed(0)


def random(num_classes, *shape):
    return torch.randint(0, num_classes, shape, generator=GENERATOR).to(torch.uint8)


def layouts(kind: str, toy_split) -> torch.Tensor:
    """uint8 [N,1,h,w] of classes 0 .. 6"""
    if kind == "street":
        return layouts_in_order(toy_split, 0, 3, toy_split.height).clamp_max(6)
    if kind == "blocks":
        return random(7, 2, 1, 4, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    if kind == "noise":
        return random(7, 1, 1, 9, 13)
    if kind == "one class":
        return torch.full((2, 1, 8, 8), 3, dtype=torch.uint8)
    if kind == "columns":
        return (torch.arange(16) % 2).to(torch.uint8).expand(1, 1, 12, 16)
    if kind == "rows":
        return (torch.arange(12)[:, None] % 2).to(torch.uint8).expand(1, 1, 12, 16)
    return random(7, 2, 1, *map(int, kind.split("x")))


KINDS = ["street", "blocks", "noise", "one class", "columns", "rows", "1x1", "1x5", "3x2"]


@pytest.fixture(params=KINDS)
def labels(request, toy_store):
    from datasets.packed import open_store

    return layouts(request.param, open_store(toy_store)["train"])


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: True)


def cut_out(labels, side: int, outside: int) -> np.ndarray:
    """labels [N,1,h,w] -> [N*h*w,side,side], the labels around each pixel."""
    n, _, h, w = labels.shape
    around = side // 2
    padded = np.pad(labels[:, 0].numpy(), ((0, 0), (around, around), (around, around)), constant_values=outside)
    return np.stack([padded[i, y : y + side, x : x + side] for i in range(n) for y in range(h) for x in range(w)])


def assemble(found, u: int) -> np.ndarray:
    """The 5x5 labels that a neighbourhood's nine parts make up together; they must agree where they overlap."""
    whole = np.full((5, 5), -1)
    for k, part in enumerate(found.parts[u].tolist()):
        window = whole[k // 3 : k // 3 + 3, k % 3 : k % 3 + 3]
        patch = found.patches[part].view(3, 3).numpy()
        assert ((window == -1) | (window == patch)).all()
        window[:] = patch
    return whole


def test_every_pixel_gets_its_own_neighbourhood_and_none_is_listed_twice(labels):
    found = neighbourhoods_of(labels, 7, hidden=128)
    wanted = cut_out(labels, 5, outside=7)
    listed = np.stack([assemble(found, u) for u in range(len(found.parts))])
    assert (listed[found.index.numpy()] == wanted).all()
    assert len(found.parts) == len(np.unique(wanted.reshape(-1, 25), axis=0))
    assert len(found.patches) == len(np.unique(found.patches.numpy(), axis=0))
    assert (found.inside[:, 0] == (found.patches[:, 4] < 7)).all()


def test_one_hot_is_that_of_the_patches(labels):
    found = neighbourhoods_of(labels, 7, hidden=128)
    wanted = (found.patches[:, None] == torch.arange(7)[:, None]).float()  # [T,7,9]; a label outside is no class
    assert torch.equal(found.one_hot, wanted.flatten(1))


def test_parts_and_their_owners_are_each_others_transposes(labels):
    found = neighbourhoods_of(labels, 7, hidden=128)
    incidence = torch.zeros(len(found.parts), 9 * len(found.patches))
    for u, parts in enumerate(found.parts.tolist()):
        for k, part in enumerate(parts):
            incidence[u, 9 * part + k] += 1
    table, gradient = torch.rand(incidence.shape[1], 3), torch.rand(incidence.shape[0], 3)
    torch.testing.assert_close(found.part_rows.sum(table), incidence @ table)
    torch.testing.assert_close(found.part_owners.sum(gradient), incidence.T @ gradient)


@pytest.mark.parametrize("chunk", [1, 64, 10**6])
def test_bags_of_all_chunks_sum_each_neighbourhoods_pixels(labels, chunk, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "CHUNK_PIXELS", chunk)
    found = neighbourhoods_of(labels, 7, hidden=128)
    values = torch.rand(labels.numel(), 3)
    size = neighbourhoods.chunk_pixels(labels.shape[-1], labels.device)
    chunks, bags = found.bags
    sums = [rows.sum(part) for (_, _, rows), part in zip(chunks, values.split(size), strict=True)]
    assert [(first, last) for first, last, _ in chunks] == list(runs([len(s) for s in sums]))
    wanted = torch.zeros(len(found.parts), 3).index_add_(0, found.index, values)
    torch.testing.assert_close(bags.sum(torch.cat(sums)), wanted)


def runs(lengths):
    start = 0
    for length in lengths:
        yield start, start + length
        start += length


@pytest.mark.parametrize("count", [3, 128, 257, 60_000])
def test_tuples_too_wide_for_one_integer_stay_apart(count):
    """Nine columns of 257 values, four of 60 000: keys of more than 63 bits are made in several steps."""
    columns = torch.randint(0, count, (9, 500), generator=GENERATOR)
    columns[:, 250:] = columns[:, :250]
    columns[8, 300:] = count - 1 - columns[8, 300:]  # differs from its twin in the last column alone, or not at all
    columns[0, 400:] = count - 1 - columns[0, 400:]
    ids, number = distinct(list(columns), count)
    wanted, inverse = np.unique(columns.numpy(), axis=1, return_inverse=True)
    assert number == wanted.shape[1] and ids.max() == number - 1
    assert len(np.unique(np.stack([ids.numpy(), inverse.reshape(-1)]), axis=1).T) == number  # a bijection


def test_bags_of_each():
    ids = torch.tensor([2, 0, 2, 3, 2])
    bags = bags_of_each(ids, 5)
    rows = [bags.rows[a:b].tolist() for a, b in zip(bags.starts, bags.starts[1:], strict=False)]
    assert rows == [[1], [], [0, 2, 4], [3], []]


def test_noise_takes_the_convolutions_and_streets_do_not(monkeypatch, toy_store):
    from datasets.packed import open_store

    monkeypatch.undo()
    assert neighbourhoods_of(random(12, 1, 1, 64, 128), 12, hidden=128) is None
    assert neighbourhoods_of(random(12, 1, 1, 4, 8), 12, hidden=128) is None
    streets = layouts("street", open_store(toy_store)["train"])
    streets = streets.repeat_interleave(4, 2).repeat_interleave(4, 3)  # [3,1,128,256]
    found = neighbourhoods_of(streets, 12, hidden=128)
    assert len(found.parts) < 0.2 * streets.numel()
