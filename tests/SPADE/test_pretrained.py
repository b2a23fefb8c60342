"""Where weights are looked for, and what is said when they are not there or broken. No network is used."""

import hashlib
import pickle
import urllib.error
import urllib.request

import pytest
import torch

from datasets.errors import UserError
from SPADE.pretrained import find_weights, inception_weights, load_weights, vgg19_weights

CONTENT = b"weights" * 1000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def no_network(monkeypatch):
    def fail(url, timeout):
        assert timeout <= 10
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", fail)


@pytest.fixture
def published(tmp_path):
    """A file as if published: its name carries its hash. Its URL needs no network."""
    path = tmp_path / f"net-{DIGITS}.pth"
    path.write_bytes(CONTENT)
    return path


def test_path_that_is_given(published, cache, no_network):
    assert vgg19_weights(published) == published
    assert inception_weights(str(published)) == published


def test_path_without_a_hash_in_its_name(tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"anything")
    assert vgg19_weights(path) == path


def test_path_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth is no file.*vgg19-dcbb9e9d\.pth.*--no_vgg_loss"):
        vgg19_weights(tmp_path / "nowhere.pth")


def test_path_of_a_truncated_file(published):
    published.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=rf"{published.name} has SHA-256 .* wanted {DIGITS}"):
        vgg19_weights(published)


def test_download_then_cache(published, cache):
    url = published.as_uri()
    found = find_weights(url, None, without="stop")
    assert found == cache / published.name
    assert found.read_bytes() == CONTENT
    published.unlink()  # from now on only the cache has it
    assert find_weights(url, None, without="stop") == found
    assert list(cache.iterdir()) == [found]


def test_cache_under_another_name(published, cache, no_network):
    cache.mkdir(parents=True)
    renamed = published.rename(cache / f"same_net-{DIGITS}.pth")
    assert find_weights(f"https://host/net-{DIGITS}.pth", None, without="stop") == renamed


def test_truncated_file_in_cache(published, cache, no_network):
    cache.mkdir(parents=True)
    (cache / published.name).write_bytes(CONTENT[:50])
    with pytest.raises(UserError, match=rf"checkpoints/{published.name} has SHA-256 .* wanted {DIGITS}"):
        find_weights(published.as_uri(), None, without="stop")


def test_download_of_something_else_leaves_nothing(published, cache):
    published.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=f"gave a file with SHA-256 .* wanted {DIGITS}"):
        find_weights(published.as_uri(), None, without="stop")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("find", "parts"),
    [
        (vgg19_weights, ["vgg19-dcbb9e9d.pth", "https://", "--no_vgg_loss"]),
        (inception_weights, ["-inception-2015-12-05-6726825d.pth", "https://", "FID", "left out"]),
    ],
)
def test_no_network(find, parts, cache, no_network):
    with pytest.raises(UserError) as caught:
        find()
    message = str(caught.value)
    assert all(part in message for part in [*parts, str(cache), "no route to host"])
    assert "\n" not in message
    assert list(cache.iterdir()) == []


def test_weights_that_cannot_be_read(tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no zip, no pickle")
    with pytest.raises(UserError, match=r"broken\.pth is no readable file"):
        load_weights(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"broken\.pth is no readable file"):
        load_weights(path)


class Hostile:
    def __reduce__(self):
        return print, ("this must not run",)


def test_weights_that_would_run_code(tmp_path, capsys):
    torch.save(Hostile(), tmp_path / "hostile.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("hostile.pth", "bare.pth"):
        with pytest.raises(UserError, match=name):
            load_weights(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_no_home_directory(tmp_path, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        torch.hub, "get_dir", lambda: "~/.cache/torch/hub"
    )  # as where neither HOME nor the user is known
    with pytest.raises(UserError, match="no.*: set HOME or TORCH_HOME, or pass --no_vgg_loss"):
        vgg19_weights()
    assert not any(tmp_path.iterdir())
