import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from datasets.doctor import main
from datasets.examine import examine_folders, examine_store
from datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES
from datasets.labels import load_space
from tests.datasets.builders import build_camvid, build_store, save_png, space_of


def run(capsys, *arguments):
    """(exit status, lines on stdout, stderr)"""
    try:
        main([str(a) for a in arguments])
        status = 0
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def folders(root):
    return ["--images", root / "images", "--labels", root / "labels", "--workers", "1"]


def test_a_good_store(tmp_path, capsys):
    store, pairs = build_store(tmp_path / "s", [(8, 16), (9, 20)], 8, 16)
    found = examine_store(tmp_path / "s")
    labels = np.concatenate([labels.reshape(-1) for _, labels in pairs])
    np.testing.assert_array_equal(found.pixels["train"], np.bincount(labels, minlength=5))
    np.testing.assert_array_equal(found.images_with["val"], [2] * 5)
    assert found.sizes == {(8, 16): 2, (9, 20): 2}
    # builders put the same pictures into both splits, which is worth knowing
    assert [p.message.split(":")[0] for p in found.problems] == ["val/pair0", "val/pair1"]


def test_ok(tmp_path, capsys):
    build_camvid(tmp_path)
    status, lines, _ = run(capsys, *folders(tmp_path), "--labelspace", "camvid")
    assert status == 0 and lines[-1] == "ok"
    assert "pairs    3 train, 3 val" in lines and "sizes    32x24 (6)" in lines


def test_shares_are_those_of_a_count(tmp_path):
    content = build_camvid(tmp_path)
    found = examine_folders(
        tmp_path / "images", tmp_path / "labels", (IMAGE_SUFFIXES, LABEL_SUFFIXES), load_space("camvid"), None, 1
    )
    for split in ("train", "val"):
        labels = np.stack([labels for (where, _), (_, labels) in content.items() if where == split])
        for class_id in range(12):
            assert found.pixels[split][class_id] == (labels == class_id).sum()


def test_ids_as_found_and_absent_classes(tmp_path, capsys):
    for name, values in (("a", (3, 200)), ("b", (3,))):
        save_png(tmp_path / f"images/{name}.png", np.full((4, 4, 3), values[-1], np.uint8))
        save_png(tmp_path / f"labels/{name}.png", np.resize(np.uint8(values), (4, 4)))
    status, lines, _ = run(capsys, *folders(tmp_path))
    assert status == 0
    assert any(re.match(r" +0 +id_3 +75.000% +2", line) for line in lines)
    assert any(re.match(r" +1 +id_200 +25.000% +1", line) for line in lines)
    status, lines, _ = run(capsys, *folders(tmp_path), "--labelspace", "camvid")
    assert status == 1 and any("all: 11 classes never appear: sky, building" in line for line in lines)


@pytest.fixture
def sick(tmp_path):
    """One of everything, among good pairs."""
    build_camvid(tmp_path, names="abcdefghij")
    images, labels = tmp_path / "images/train", tmp_path / "labels/train"
    for path, value, pixels in ((labels / "a.png", 77, 1), (labels / "b.png", 99, 500)):
        array = np.array(Image.open(path))
        array.reshape(-1)[:pixels] = value
        Image.fromarray(array).save(path)
    (labels / "c.png").write_bytes((labels / "c.png").read_bytes()[:100])
    (images / "d.png").write_bytes(b"")
    Image.open(labels / "e.png").resize((16, 12), 0).save(labels / "e.png")
    (labels / "f.png").unlink()
    shutil.copy(images / "g.png", images / "h.png")
    Image.open(labels / "i.png").convert("RGBA").save(labels / "i.png")
    shutil.copy(images / "j.png", images / "j.PNG")
    return tmp_path


EXPECTED = {  # what the line says -> how often
    "labels/train/a.png: id 77 at 1 pixels": 1,
    "labels/train/b.png: id 99 at 500 pixels": 1,
    "labels/train/c.png: unreadable, empty, truncated": 1,
    "images/train/d.png: unreadable, empty, truncated": 1,
    "labels/train/e.png: 16x12 pixels, but": 1,
    "images/train/f.png: no label of the same name": 1,
    "images/train/h.png: the same picture as": 1,
    "labels/train/i.png: a label of mode RGBA": 1,
    "has the same stem; remove one": 1,
}


def test_finds_everything_at_once_the_worst_first(sick, capsys):
    status, lines, _ = run(capsys, *folders(sick), "--labelspace", "camvid")
    assert status == 1 and lines[-1] == f"{len(EXPECTED)} to mend"
    for words, count in EXPECTED.items():
        assert sum(words in line for line in lines) == count, words
    text = "\n".join(lines)
    assert text.index("b.png: id 99") < text.index("a.png: id 77")


class Pictures(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]


def test_report_is_one_file_with_pictures(sick, capsys):
    report = sick / "report.html"
    status, _, _ = run(capsys, *folders(sick), "--labelspace", "camvid", "--report", report)
    text = report.read_text()
    parsed = Pictures()
    parsed.feed(text)
    assert status == 1 and "9 to mend" in text
    assert all(source.startswith("data:image/") for source in parsed.sources) and not {"script", "link"} & parsed.tags
    assert len(parsed.sources) == 2 * 12 + 2  # images over layouts, and the labels with ids outside the table
    assert "http" not in text and "pavement" in text
    assert not list(sick.glob(".report*"))


def test_damage_in_a_store_is_found_by_pair(tmp_path, capsys):
    build_store(tmp_path / "s", [(8, 16)] * 3, 8, 16)
    path = tmp_path / "s/val.labels.u8"
    content = bytearray(path.read_bytes())
    content[8 * 16 + 5] ^= 1
    path.write_bytes(content)
    status, lines, _ = run(capsys, tmp_path / "s")
    assert status == 1
    assert sum("pair pair1 of split val is not what was written" in line for line in lines) == 1


@pytest.mark.parametrize("arguments", [[], ["s", "--images", "i", "--labels", "l"], ["--images", "i"]])
def test_asks_for_one_thing(arguments, capsys):
    status, _, error = run(capsys, *arguments)
    assert status == 2 and "STORE or both --images and --labels" in error


def test_what_is_not_there(tmp_path, capsys):
    status, _, error = run(capsys, tmp_path / "s")
    assert status == 2 and "no such store" in error
    status, _, error = run(capsys, *folders(tmp_path))
    assert status == 2 and "no such directory" in error
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    status, lines, _ = run(capsys, *folders(tmp_path)[:4])
    assert status == 1 and "2 to mend" in lines


def test_report_that_cannot_be_written(tmp_path, capsys):
    build_camvid(tmp_path)
    status, _, error = run(capsys, *folders(tmp_path), "--report", tmp_path / "nowhere/r.html")
    assert status == 2 and "--report" in error and "choose another file" in error


def test_a_report_that_fails_leaves_no_part(tmp_path, capsys, monkeypatch):
    build_camvid(tmp_path)
    status, _, error = run(capsys, *folders(tmp_path), "--report", tmp_path)
    assert status == 2 and "a directory; give the name of a file" in error

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    status, _, error = run(capsys, *folders(tmp_path), "--report", tmp_path / "r.html")
    assert status == 2 and "No space left" in error
    assert not list(tmp_path.glob("*r.html*")) and not list(tmp_path.glob(".*"))


def test_offenders_with_a_palette_are_marked_by_what_was_read(tmp_path):
    """Indices 20..24 in the colours of classes 0..4, and one pixel of another colour."""
    space, indices = space_of(5), np.full((128, 128), 20, np.uint8) + np.arange(128, dtype=np.uint8) % 5
    indices[60, 70] = 30
    palette = np.zeros((256, 3), np.uint8)
    palette[20:25], palette[30] = space.colours, (1, 2, 3)
    label = Image.fromarray(indices).convert("P")
    label.putpalette(palette.tobytes())
    (tmp_path / "labels").mkdir()
    label.save(tmp_path / "labels/a.png")
    save_png(tmp_path / "images/a.png", np.zeros((128, 128, 3), np.uint8))
    found = examine_folders(
        tmp_path / "images", tmp_path / "labels", ((".png",), (".png",)), space, palette="colours", workers=1
    )
    marked = (found.offenders[0][1] == (255, 0, 255)).all(-1)
    assert marked[60, 70] and marked.sum() <= 9
