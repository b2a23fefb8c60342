from collections import Counter

import numpy as np
import pytest
import torch

from datasets.errors import UserError
from datasets.reader import Reader, in_order, layouts_in_order, random_bits, sample_nearest
from tests.datasets.builders import build_store

EQUAL = [(16, 32)] * 10


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stores")
    return {
        "equal": build_store(directory / "equal", EQUAL, 16, 32),
        "ragged": build_store(directory / "ragged", [(18, 18 + 3 * i) for i in range(8)], 16, 16),
        "weighted": build_store(directory / "weighted", EQUAL[:4], 16, 32, weights=[7, 1, 1, 7]),
    }


def test_random_bits_are_splitmix64():
    """The first numbers of SplitMix64 from state 0, as published with it."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert random_bits(0, 0, np.arange(1, 4)).tolist() == expected


def test_random_bits_do_not_depend_on_what_was_drawn_before():
    whole = random_bits(5, 1, np.arange(1000))
    np.testing.assert_array_equal(random_bits(5, 1, np.array([999, 3])), whole[[999, 3]])
    assert abs((whole >> np.uint64(63)).mean() - 0.5) < 0.06
    streams = [random_bits(seed, stream, np.arange(1000)) for seed in (5, 6) for stream in range(4)]
    assert len(np.unique(np.concatenate(streams))) == 8000


@pytest.mark.parametrize("name", ["equal", "ragged", "weighted"])
def test_every_image_once_or_as_often_as_its_weight_in_each_epoch(stores, name):
    split = stores[name][0]["train"]
    reader = Reader(split, seed=1)
    epochs = []
    for epoch in range(3):
        drawn = [reader.draws(epoch * split.draws_per_epoch + k, 1).index[0] for k in range(split.draws_per_epoch)]
        assert Counter(drawn) == Counter(dict(enumerate(split.weights)))
        epochs.append(drawn)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("name", ["equal", "ragged", "weighted"])
def test_batches_depend_on_seed_and_images_seen_alone(stores, name):
    split = stores[name][0]["train"]
    ahead = Reader(split, seed=2)
    straight = [[t.clone() for t in ahead.pairs(seen, 4)] for seen in range(0, 40, 4)]
    for k in (7, 0, 3, 9):  # any order, in a new reader each: as after resuming
        for ours, theirs in zip(Reader(split, seed=2).pairs(4 * k, 4), straight[k], strict=True):
            assert torch.equal(ours, theirs)
    other = Reader(split, seed=3)
    assert any(not torch.equal(straight[k][0], other.pairs(4 * k, 4)[0]) for k in range(10))
    # another batch size takes the same draws
    assert torch.equal(torch.cat([straight[0][0], straight[1][0]])[:2], Reader(split, 2).pairs(0, 2)[0])


@pytest.mark.parametrize("name", ["equal", "ragged"])
def test_ranks_share_the_batch(stores, name):
    split = stores[name][0]["train"]
    for seen in (0, 4, 6, 32):
        whole = Reader(split, 4).pairs(seen, 8)
        layouts = Reader(split, 4).layouts(seen, 8, 8)
        parts = [Reader(split, 4, rank, 4) for rank in range(4)]
        for k in range(2):
            assert torch.equal(whole[k], torch.cat([p.pairs(seen, 8)[k] for p in parts]))
        assert torch.equal(layouts, torch.cat([p.layouts(seen, 8, 8) for p in parts]))


@pytest.mark.parametrize("name", ["equal", "ragged"])
def test_image_and_labels_are_one_window_of_one_pair(stores, name):
    """Each pair of a batch is found again in the arrays that were written, by trying all windows and flips."""
    store, pairs = stores[name]
    split = store["train"]
    reader = Reader(split, seed=0)
    size, seen_flips, seen_corners = (store.height, store.width), set(), set()
    for seen in range(0, 32, 8):
        images, labels = reader.pairs(seen, 8)
        for image, label, index in zip(images, labels, reader.draws(seen, 8).index, strict=True):
            found = find_window(image.numpy(), label[0].numpy(), *pairs[index], size)
            assert len(found) == 1
            seen_corners.add(found[0][:2])
            seen_flips.add(found[0][2])
    assert seen_flips == {False, True}
    assert len(seen_corners) == 1 if name == "equal" else len(seen_corners) > 8


def find_window(image, label, stored_image, stored_labels, size):
    """All (top, left, flip) at which image [3,h,w] and label [h,w] lie in the stored pair"""
    height, width = size
    found = []
    for top in range(stored_labels.shape[0] - height + 1):
        for left in range(stored_labels.shape[1] - width + 1):
            window = (slice(top, top + height), slice(left, left + width))
            cut_image, cut_labels = stored_image[window].transpose(2, 0, 1), stored_labels[window]
            for flip in (False, True):
                step = -1 if flip else 1
                if (cut_image[..., ::step] == image).all() and (cut_labels[..., ::step] == label).all():
                    found.append((top, left, flip))
    return found


def test_no_flips_when_told(stores):
    store, pairs = stores["equal"]
    reader = Reader(store["train"], seed=0, flip=False)
    images, _ = reader.pairs(0, 10)
    for image, index in zip(images, reader.draws(0, 10).index, strict=True):
        np.testing.assert_array_equal(image, pairs[index][0].transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["equal", "ragged"])
@pytest.mark.parametrize("height", [1, 2, 4, 5, 7, 8, 16])
def test_layouts_are_pytorchs_nearest_of_the_full_labels(stores, name, height):
    split = stores[name][0]["train"]
    reader = Reader(split, seed=9)
    full = reader.pairs(5, 4)[1]
    expected = torch.nn.functional.interpolate(full, (height, split.aspect * height), mode="nearest")
    assert torch.equal(reader.layouts(5, 4, height), expected)


def test_sample_nearest_takes_every_sth_pixel_from_pixel_0():
    layout = np.arange(8 * 16).reshape(8, 16)
    np.testing.assert_array_equal(sample_nearest(layout, 2, 4), layout[::4, ::4])


@pytest.mark.parametrize("name", ["equal", "ragged"])
def test_evaluation_order_is_plain_and_central(stores, name):
    store, pairs = stores[name]
    split = store["train"]
    images, labels = in_order(split, 3, 100)
    assert len(images) == len(labels) == len(split) - 3
    for k, (image, stored) in enumerate(pairs[3:]):
        top, left = (stored.shape[0] - 16) // 2, (stored.shape[1] - store.width) // 2
        window = (slice(top, top + 16), slice(left, left + store.width))
        np.testing.assert_array_equal(images[k], image[window].transpose(2, 0, 1))
        np.testing.assert_array_equal(labels[k, 0], stored[window])
    small_images, small_labels = in_order(split, 3, 100, height=4)
    assert torch.equal(small_labels, labels[:, :, ::4, ::4])
    assert torch.equal(small_labels, layouts_in_order(split, 3, 100, 4))
    means = torch.nn.functional.avg_pool2d(images.double(), 4)
    assert (small_images - means).abs().max() <= 0.5


@pytest.mark.parametrize(
    "world_size, batch_size, message",
    [(1, 11, "--batch_size 11: larger.*'train' with 10 images"), (4, 6, "--batch_size 6: not divisible by 4")],
)
def test_batches_that_cannot_be(stores, world_size, batch_size, message):
    with pytest.raises(UserError, match=message):
        Reader(stores["equal"][0]["train"], 0, 0, world_size).layouts(0, batch_size, 4)
