"""One's own folders: what prepare says of them, and which files it takes for pairs."""

import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tests.datasets.builders import save_png
from tests.datasets.refusals import expect_refusal
from tests.datasets.test_folder import SIZE, build_folder, layouts, prepare


def refuse(capsys, root, *words, images="images", labels="labels", flags=()):
    arguments = ["folder", "--images", str(root / images), "--labels", str(root / labels), *SIZE, *flags]
    expect_refusal(capsys, arguments, root / "s", *words)


def test_one_pair(tmp_path, capsys):
    build_folder(tmp_path, ["a"])
    refuse(capsys, tmp_path, "1 pair alone", "training and validation need one each; add pictures")


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_labels_in_a_format_that_changes_ids(tmp_path, capsys, suffix, all_of_them):
    build_folder(tmp_path, ["a", "b", "c"])
    for path in sorted((tmp_path / "labels").iterdir())[: 3 if all_of_them else 1]:
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    refuse(capsys, tmp_path, f"labels/a{suffix}: a label in a format that changes ids; save labels as 8-bit")


def test_what_is_there_instead(tmp_path, capsys):
    build_folder(tmp_path, ["a", "b"])
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(".heic"))
    refuse(capsys, tmp_path, "images: no *.jpg,", "files in it, but *.heic; give the directory")


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".tiff"])
def test_labels_in_other_formats_that_keep_ids(tmp_path, suffix):
    content = build_folder(tmp_path, ["a", "b", "c"])
    for path in list((tmp_path / "labels").iterdir()):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    for name, layout in layouts(prepare(tmp_path)).items():
        np.testing.assert_array_equal(layout, content[name][1])


def test_grey_ids_saved_as_colours(tmp_path, capsys):
    content = build_folder(tmp_path, ["a", "b"])
    save_png(tmp_path / "labels/a.png", np.repeat(content["a"][1][..., None], 3, 2))
    refuse(capsys, tmp_path, "labels/a.png: colour-coded", "save its grey values as 8-bit greyscale PNG of ids")
    words = "labels/a.png: a label of mode RGB; save its grey values", "not in the label table 'camvid'"
    refuse(capsys, tmp_path, *words, flags=("--labelspace", "camvid"))


def test_names_in_two_unicode_forms_are_pairs(tmp_path):
    """As macOS and a zip made elsewhere write them."""
    names = ["Übergang/gëb", "Übergang/c", "d"]
    content = build_folder(tmp_path, [unicodedata.normalize("NFC", name) for name in names])
    folders = tmp_path / "labels", tmp_path / "old"
    folders[0].rename(folders[1])
    for path in folders[1].rglob("*.png"):
        there = folders[0] / unicodedata.normalize("NFD", str(path.relative_to(folders[1])))
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there)
    for name, layout in layouts(prepare(tmp_path)).items():
        assert name == unicodedata.normalize("NFC", name)
        np.testing.assert_array_equal(layout, content[name][1])


def test_one_name_in_two_unicode_forms_within_a_folder(tmp_path, capsys):
    build_folder(tmp_path, ["a", "\u00e9"])
    shutil.copy(tmp_path / "images/\u00e9.png", tmp_path / "images/e\u0301.png")
    refuse(capsys, tmp_path, "twice there, in two of Unicode's ways to write its name; remove one")


def build_one_folder(root, image_ending, label_ending):
    content = build_folder(root, ["a", "b", "c"], folders=("images", "labels"))
    (root / "all").mkdir()
    for name, (image, labels) in content.items():
        Image.fromarray(image).save(root / f"all/{name}{image_ending}", quality=100)
        Image.fromarray(labels).save(root / f"all/{name}{label_ending}")
    return content


@pytest.mark.parametrize("image_ending, label_ending", [(".jpg", ".png"), (".png", "_mask.png"), ("_rgb.png", ".png")])
def test_images_and_labels_in_one_folder(tmp_path, capsys, image_ending, label_ending):
    content = build_one_folder(tmp_path, image_ending, label_ending)
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(tmp_path / "labels")
    refuse(capsys, tmp_path, "all: is --images and --labels, and a", "--image_ending .jpg --label_ending .png",
           images="all", labels="all")  # fmt: skip
    (tmp_path / "images").symlink_to(tmp_path / "all")
    (tmp_path / "labels").symlink_to(tmp_path / "all")
    ways = [("--image_ending", image_ending, "--label_ending", label_ending)]
    ways += [("--label_ending", label_ending)] if label_ending != ".png" or image_ending == ".jpg" else []
    ways += [("--image_ending", image_ending)] if image_ending != ".png" else []
    for flags in ways:
        found = layouts(prepare(tmp_path, *flags))
        shutil.rmtree(tmp_path / "s")
        assert sorted(found) == ["a", "b", "c"], flags
        for name, layout in found.items():
            np.testing.assert_array_equal(layout, content[name][1])


@pytest.mark.parametrize("outer, inner", [("images", "labels"), ("labels", "images")])
def test_one_folder_within_the_other(tmp_path, outer, inner):
    content = build_folder(tmp_path, ["a", "x/b", "c"])
    (tmp_path / inner).rename(tmp_path / outer / "the others")
    (tmp_path / inner).symlink_to(tmp_path / outer / "the others")
    for name, layout in layouts(prepare(tmp_path)).items():
        np.testing.assert_array_equal(layout, content[name][1])
