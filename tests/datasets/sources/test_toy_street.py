import hashlib
import subprocess
import sys

import numpy as np
import pytest

from datasets.labels import load_space
from datasets.sources.toy_street import CLASSES, WEATHERS, draw

SEEDS = range(200)


@pytest.fixture(scope="module")
def scenes():
    """images uint8 [200,32,64,3], labels uint8 [200,32,64]"""
    images, labels = zip(*(draw(seed, 32, 64) for seed in SEEDS), strict=True)
    return np.stack(images), np.stack(labels)


def digest(seed, height, width):
    image, labels = draw(seed, height, width)
    return hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest()


def test_label_space_is_that_of_the_drawing():
    space = load_space("toy_street")
    assert tuple(zip(space.names, map(tuple, space.colours.tolist()), strict=True)) == CLASSES


def test_classes_have_distinct_names_and_colours():
    names, colours = zip(*CLASSES, strict=True)
    assert 8 <= len(CLASSES) <= 12
    assert len(set(names)) == len(set(colours)) == len(CLASSES)
    assert all(len(colour) == 3 and all(0 <= value <= 255 for value in colour) for colour in colours)


@pytest.mark.parametrize("height, width", [(4, 8), (32, 64), (64, 64), (48, 80), (96, 64)])
def test_any_size(height, width):
    image, labels = draw(7, height, width)
    assert image.shape == (height, width, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert labels.shape == (height, width) and labels.dtype == np.uint8 and labels.flags.c_contiguous
    assert labels.max() < len(CLASSES)
    assert len(np.unique(labels)) > 2


def test_same_bytes_in_another_process():
    cases = [(0, 32, 64), (3, 64, 128), (2**40 + 1, 32, 32)]
    command = (
        "import hashlib\nfrom datasets.sources.toy_street import draw\n"
        f"for case in {cases[::-1]}:\n"
        "    image, labels = draw(*case)\n"
        "    print(hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert there[::-1] == [digest(*case) for case in cases]


def test_the_caller_may_write_into_what_it_got():
    image, labels = draw(5, 32, 64)
    before = image.copy(), labels.copy()
    image[:], labels[:] = 0, 0
    again = draw(np.int64(5), 32, 64)
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))


@pytest.mark.parametrize("seed", [1, 2, 11])
def test_same_scene_at_another_size(seed):
    image, labels = draw(seed, 32, 64)
    large_image, large_labels = draw(seed, 128, 256)
    assert (large_labels[2::4, 2::4] == labels).mean() > 0.85
    mean = large_image.reshape(32, 4, 64, 4, 3).mean(axis=(1, 3))  # box filter
    assert np.abs(mean - image).mean() < 10
    other, _ = draw(seed + 100, 32, 64)
    assert np.abs(mean - other).mean() > 20


def test_every_class_appears_and_none_prevails(scenes):
    labels = scenes[1]
    share = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    assert len(share) == len(CLASSES)
    assert share.min() > 0.002 and share.max() < 0.4
    present = [(labels == k).any(axis=(1, 2)).mean() for k in range(len(CLASSES))]
    assert min(present) > 0.5  # of the scenes


def test_scenes_differ(scenes):
    images, labels = scenes
    assert len({one.tobytes() for one in labels}) == len(SEEDS)
    disagreement = [(labels[i] != labels[j]).mean() for i in range(0, 200, 9) for j in range(i)]
    assert min(disagreement) > 0.2 and np.median(disagreement) > 0.5
    mirrored = (labels != labels[:, :, ::-1]).mean(axis=(1, 2))
    assert np.median(mirrored) > 0.4
    brightness = images.mean(axis=(1, 2, 3))
    assert brightness.std() > 12


def test_layout_obeys_perspective(scenes):
    labels = scenes[1]
    names = [name for name, _ in CLASSES]
    row = np.arange(32)[None, :, None]
    below = {
        name: np.average(np.broadcast_to(row, labels.shape), weights=labels == names.index(name))
        for name in ("sky", "building", "car", "road")
    }
    assert below["sky"] < below["building"] < below["car"] < below["road"]
    sky, road = labels == names.index("sky"), labels == names.index("road")
    assert not (road[:, 0].any() or sky[:, -1].any())
    width = road.sum(axis=2).mean(axis=0)  # of the road by row: grows towards the camera
    assert np.all(np.diff(width[18:]) > -1) and width[-1] > 2 * width[18]


def test_edges_of_labels_lie_on_edges_of_images():
    """Moved by even one pixel, the layout's edges meet weaker edges of the image."""
    shifts = range(-3, 4)
    strength = {(axis, shift): 0.0 for axis in (0, 1) for shift in shifts}
    for seed in range(12):
        image, labels = draw(seed, 64, 128)
        for axis in (0, 1):
            contrast = np.abs(np.diff(image.astype(float), axis=axis)).sum(axis=2)
            edge = np.diff(labels.astype(int), axis=axis) != 0
            for shift in shifts:
                strength[axis, shift] += contrast[np.roll(edge, shift, axis=axis)].mean()
    for axis in (0, 1):
        best = max(shifts, key=lambda shift: strength[axis, shift])
        assert best == 0
        assert strength[axis, 0] > 1.5 * strength[axis, 3] and strength[axis, 0] > 1.5 * strength[axis, -3]


def test_layout_explains_the_image(scenes):
    """Within a scene, the mean colour of its class tells much of a pixel's colour."""
    explained = []
    for image, labels in zip(*scenes, strict=True):
        pixels, ids = image.reshape(-1, 3).astype(float), labels.ravel()
        count = np.maximum(np.bincount(ids, minlength=len(CLASSES)), 1)
        means = np.stack([np.bincount(ids, pixels[:, c], len(CLASSES)) / count for c in range(3)], axis=1)
        explained.append(1 - ((pixels - means[ids]) ** 2).sum() / ((pixels - pixels.mean(axis=0)) ** 2).sum())
    assert 0.5 < np.mean(explained) < 0.9  # and not everything: there is something to paint


def test_a_weather_changes_the_light_and_nothing_else():
    for seed in range(8):
        image, labels = draw(seed, 32, 64)
        scenes = {weather: draw(seed, 32, 64, weather) for weather in WEATHERS}
        assert all(np.array_equal(found, labels) for _, found in scenes.values())
        images = [found.tobytes() for found, _ in scenes.values()]
        assert len(set(images)) == len(WEATHERS) and image.tobytes() in images
    sky = next(i for i, (name, _) in enumerate(CLASSES) if name == "sky")
    skies = [draw(seed, 32, 64, weather) for weather in ("clear", "dusk") for seed in range(8)]
    clear, dusk = np.array([image[labels == sky].mean() for image, labels in skies]).reshape(2, 8)
    assert (clear > dusk + 50).all()
