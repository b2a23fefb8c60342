"""Memorising shows: copies of training scenes, mirrored ones too, are found and are nearer than real scenes are."""

import numpy as np
import torch

from datasets.packed import open_store
from datasets.reader import in_order
from SBGAN.evaluation.copies import copies_picture, copy_check, nearest_items


def test_copies_are_found(toy_store):
    store = open_store(toy_store)
    images, labels = in_order(store["train"], 0, 16)
    picks = [5, 0, 11]
    images, labels = images[picks].clone(), labels[picks].clone()
    images[1], labels[1] = images[1].flip(2), labels[1].flip(2)
    record, found = copy_check(labels, images, store)
    for kind in ("layout", "image"):
        assert found[kind].index.tolist() == picks
        assert found[kind].mirrored.tolist() == [False, True, False]
        assert record[kind]["median"] < 1e-3 < 0.02 < record[kind]["median_of_real"]
        assert record[kind]["closer_than_any_real"] == 3
    picture = copies_picture(labels, images, found, store)
    order = found["image"].distance.argsort()
    rows = [picture[:, 2 + k * 34 : 34 + k * 34, 2:66] for k in range(4)]  # of the first column: gaps of 2 pixels
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3])
    assert torch.equal(rows[2], images[order[0]])
    items = nearest_items(found, store["train"], seed=7)
    assert [item["seed"] for item in items] == [7, 8, 9]
    for kind in ("layout", "image"):
        assert [item[kind]["nearest"] for item in items] == [store["train"].names[i] for i in picks]
        assert [item[kind]["mirrored"] for item in items] == [False, True, False]
        assert all(abs(item[kind]["distance"]) < 1e-3 for item in items)


def test_held_out_scenes_are_no_copies(toy_store):
    store = open_store(toy_store)
    images, labels = in_order(store["val"], 0, 8)
    record, _ = copy_check(labels, images, store)
    for kind in ("layout", "image"):
        assert record[kind]["closer_than_any_real"] == 0
        assert record[kind]["median"] == record[kind]["median_of_real"]


def test_brute_force(toy_store):
    store = open_store(toy_store)
    images, labels = in_order(store["val"], 0, 4)
    train_images, train_labels = in_order(store["train"], 0, 16)
    _, found = copy_check(labels, images, store)
    for i in range(4):
        both = torch.cat([train_labels, train_labels.flip(3)])
        differs = [(labels[i] != other).double().mean().item() for other in both]
        assert abs(found["layout"].distance[i].item() - min(differs)) < 1e-6
        both = torch.cat([train_images, train_images.flip(3)]).double().flatten(1).numpy()
        correlations = [np.corrcoef(images[i].double().flatten().numpy(), other)[0, 1] for other in both]
        assert abs(found["image"].distance[i].item() - (2 - 2 * max(correlations)) ** 0.5) < 1e-4


def test_small_images_of_the_baseline(toy_store):
    store = open_store(toy_store)
    images, _ = in_order(store["train"], 0, 4, height=16)
    record, found = copy_check(None, images, store)
    assert found["image"].index.tolist() == [0, 1, 2, 3] and set(record) == {"image"}
    distances = 12  # rows of the picture
    assert copies_picture(None, images, found, store).shape == (3, 2 + 2 * 34 + distances, 2 + 4 * 66)


def test_blurred_images_are_no_copies(toy_store):
    store = open_store(toy_store)
    images, _ = in_order(store["val"], 0, 6)
    grey = torch.full_like(images, 128)
    record, _ = copy_check(None, grey, store)
    assert record["image"]["closer_than_any_real"] == 0
