import json
import os
import zlib

import numpy as np
import pytest

from datasets.errors import UserError
from datasets.packed import MAX_RESIDENT_BYTES, MappedFile, index_checksum, open_store
from datasets.packing import Entry, StoreWriter, check_size
from tests.datasets.builders import build_store, random_pair, space_of

SIZES = [(8, 16), (9, 20), (8, 31)]


def test_round_trip_of_images_of_several_sizes(tmp_path):
    store, pairs = build_store(tmp_path / "s", SIZES, 8, 16, weights=[1, 7, 1])
    assert (store.name, store.height, store.width, store.aspect, store.reference) == ("random", 8, 16, 2, "val")
    assert store.label_space == space_of(5)
    split = store["train"]
    assert len(split) == 3 and split.names == ["pair0", "pair1", "pair2"]
    assert split.weights == [1, 7, 1] and split.draws_per_epoch == 9
    for i, (image, labels) in enumerate(pairs):
        np.testing.assert_array_equal(split.image(i), image.transpose(2, 0, 1))
        np.testing.assert_array_equal(split.layout(i), labels)
        assert split.size(i) == labels.shape
        assert split.crc32[i] == zlib.crc32(image.transpose(2, 0, 1).tobytes() + labels.tobytes())
    with pytest.raises(ValueError):
        split.image(0)[0] = 1  # read-only


def test_same_input_same_bytes(tmp_path):
    for name in ("a", "b"):
        build_store(tmp_path / name, SIZES, 8, 16)
    files = sorted(os.listdir(tmp_path / "a"))
    assert files == ["index.json", "train.images.u8", "train.labels.u8", "val.images.u8", "val.labels.u8"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_order_of_writing_does_not_matter(tmp_path):
    build_store(tmp_path / "a", SIZES, 8, 16)
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng, h, w) for h, w in SIZES]
    entries = [Entry(f"pair{i}", h, w) for i, (h, w) in enumerate(SIZES)]
    splits = {"train": entries, "val": entries}
    with StoreWriter(tmp_path / "b", "random", space_of(5), 8, 16, "val", splits) as writer:
        for split in ("val", "train"):
            for i in (2, 0, 1):
                writer.write(split, i, *pairs[i])
    for file in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_mapped_pages_are_given_back(tmp_path):
    """Reading a file larger than the limit on mapped pages leaves at most the limit resident."""
    rows, row_bytes = 40, 8 << 20
    with open(tmp_path / "big", "wb") as file:
        for i in range(rows):
            file.write(bytes([i]) * row_bytes)
    mapped = MappedFile(tmp_path / "big", [(row_bytes,)] * rows)
    resident = []
    for i in range(rows):
        assert mapped[i].max() == i
        with open("/proc/self/statm") as file:
            resident.append(int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE"))  # file-backed pages
    assert rows * row_bytes > 2 * MAX_RESIDENT_BYTES
    assert max(resident) - resident[0] <= MAX_RESIDENT_BYTES


def test_an_error_while_writing_leaves_nothing(tmp_path):
    for breaking in (KeyboardInterrupt, SystemExit, RuntimeError):
        with pytest.raises(breaking), StoreWriter(
            tmp_path / "s", "x", space_of(5), 4, 4, "train", {"train": [Entry("a", 4, 4)]}
        ):  # fmt: skip
            assert [p.name for p in tmp_path.iterdir()] == [".s.partial"]
            raise breaking
        assert list(tmp_path.iterdir()) == []


def test_a_pair_that_was_never_written_is_a_bug(tmp_path):
    writer = StoreWriter(tmp_path / "s", "x", space_of(5), 4, 4, "train", {"train": [Entry("a", 4, 4)]})
    with pytest.raises(ValueError, match="pair 0 of split train was never written"), writer:
        pass
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_preparation_go(tmp_path):
    partial = tmp_path / ".s.partial"
    partial.mkdir()
    (partial / "train.images.u8").write_bytes(b"old")
    (partial / "other.images.u8").write_bytes(b"old")
    with pytest.raises(UserError, match="index.json"):
        open_store(partial)
    build_store(tmp_path / "s", SIZES, 8, 16)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s"]
    assert len(list((tmp_path / "s").iterdir())) == 5


def test_two_preparations_of_one_store_at_once(tmp_path):
    splits = {"train": [Entry("a", 4, 4)]}
    with StoreWriter(tmp_path / "s", "x", space_of(5), 4, 4, "train", splits) as first:
        second = StoreWriter(tmp_path / "s", "x", space_of(5), 4, 4, "train", splits)
        with pytest.raises(UserError, match="another process is preparing it"):
            second.__enter__()
        first.write("train", 0, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    assert len(open_store(tmp_path / "s")["train"]) == 1


def edit_index(path, checksum=True, **changes):
    index = json.loads((path / "index.json").read_text()) | changes
    if checksum:
        index["checksum"] = index_checksum(index)
    (path / "index.json").write_text(json.dumps(index))


def shorten(path):
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda s: edit_index(s, version=2), "index.json: store version 2, this code reads 1"),
        (lambda s: edit_index(s, height=16, checksum=False), "index.json: changed since it was written"),
        (lambda s: edit_index(s, label_space={}, checksum=False), "index.json: changed since it was written"),
        (lambda s: edit_index(s, format="zip"), "index.json: not the index of a packed store"),
        (lambda s: (s / "index.json").write_text("[]"), "index.json: not the index of a packed store"),
        (lambda s: shorten(s / "index.json"), "index.json: damaged, not JSON"),
        (lambda s: (s / "index.json").write_bytes(b"\xff"), "index.json: damaged, not JSON"),
        (lambda s: (s / "index.json").unlink(), "has no index.json"),
        (lambda s: shorten(s / "train.images.u8"), "train.images.u8: .* bytes long, not .* bytes"),
        (lambda s: shorten(s / "val.labels.u8"), "val.labels.u8: .* bytes long, not .* bytes"),
        (lambda s: (s / "val.images.u8").write_bytes(b""), "val.images.u8: 0 bytes long"),
        (lambda s: (s / "val.images.u8").unlink(), "val.images.u8: missing"),
    ],
)
def test_damaged_stores_are_refused_by_name_of_file(damage, message, tmp_path):
    build_store(tmp_path / "s", SIZES, 8, 16)
    damage(tmp_path / "s")
    with pytest.raises(UserError, match=message) as error:
        open_store(tmp_path / "s")
    assert str(tmp_path / "s") in str(error.value) and "prepare" in str(error.value)


def test_no_store_and_no_such_split(tmp_path):
    with pytest.raises(UserError, match="no such store; make one with python -m datasets.prepare"):
        open_store(tmp_path / "s")
    store, _ = build_store(tmp_path / "s", SIZES, 8, 16)
    with pytest.raises(UserError, match="no split 'test', only train, val"):
        store["test"]


@pytest.mark.parametrize("height, width, flag", [(48, 96, "--height"), (2, 4, "--height"), (64, 192, "--width")])
def test_sizes_that_layouts_cannot_have(height, width, flag):
    with pytest.raises(UserError, match=flag):
        check_size(height, width)
