"""Features of real images: computed once, and again as soon as anything that they depend on is another."""

import numpy as np
import pytest
import torch

from datasets import prepare
from datasets.packed import open_store
from datasets.reader import in_order
from SPADE.evaluation import scores as reference
from SPADE.evaluation.features import Extractor
from SPADE.evaluation.metrics import Evaluation


class MeanColours(torch.nn.Module):
    def forward(self, images):
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def extractor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.jit.script(MeanColours()).save(str(tmp_path / "mean.pt"))
    return Extractor(tmp_path / "mean.pt", standard=False)


def features(store, extractor, split="val", num=8):
    evaluation = Evaluation(store, "cpu", num, height=store.height, network=extractor)
    return reference.real_samples(split, evaluation)["features"]


def test_computed_once(toy_store, extractor, monkeypatch):
    store = open_store(toy_store)
    first = features(store, extractor)
    assert torch.allclose(first, in_order(store["val"], 0, 8)[0].float().mean((2, 3)))
    monkeypatch.setattr(Extractor, "features", lambda *arguments: pytest.fail("computed again"))
    assert torch.equal(features(store, extractor), first)


def test_the_key_holds_split_count_size_weights_and_content(toy_store, extractor, tmp_path):
    store = open_store(toy_store)
    key = reference.cache_key(store, "val", 8, 32, extractor)
    (tmp_path / "other.pt").write_bytes(b"other weights")
    other = tmp_path / "other store"
    sizes = ["--height", "32", "--width", "64", "--num_train", "16", "--num_val", "8"]
    prepare.main(["toy_street", "--out", str(other), *sizes, "--seed", "1", "--workers", "1"])
    keys = {
        key,
        reference.cache_key(store, "train", 8, 32, extractor),
        reference.cache_key(store, "val", 7, 32, extractor),
        reference.cache_key(store, "val", 8, 16, extractor),
        reference.cache_key(store, "val", 8, 32, Extractor(tmp_path / "other.pt", standard=False)),
        reference.cache_key(open_store(other), "val", 8, 32, extractor),
    }
    assert len(keys) == 6
    assert key == reference.cache_key(open_store(toy_store), "val", 8, 32, extractor)


def test_a_damaged_file_is_computed_again(toy_store, extractor):
    store = open_store(toy_store)
    first = features(store, extractor)
    (file,) = reference.cache_folder().iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(features(store, extractor), first)
    assert np.load(file).shape == (8, 3)


def test_a_cache_that_cannot_be_written_is_said(toy_store, extractor, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert len(features(open_store(toy_store), extractor)) == 8
    assert "not kept" in capsys.readouterr().out


def test_without_a_home_directory_nothing_is_kept(toy_store, extractor, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where neither HOME nor the user is known
    assert len(features(open_store(toy_store), extractor)) == 8
    assert "no home directory; set HOME" in capsys.readouterr().out
