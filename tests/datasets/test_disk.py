import hashlib
import os
import signal

import pytest

from datasets.files import replacing, sha256


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_or_the_old_one(tmp_path, durable):
    path = tmp_path / "made for it" / "a.json"
    with replacing(path, durable=durable) as temporary:
        assert temporary.suffix == ".json" and temporary.parent == path.parent
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), replacing(path, durable=durable) as temporary:
        temporary.write_text("half of the sec")
        raise ZeroDivisionError
    assert path.read_text() == "first" and os.listdir(path.parent) == ["a.json"]


def test_processes_that_write_one_file_have_temporary_names_of_their_own(tmp_path):
    child = os.fork()
    if not child:
        with replacing(tmp_path / "a.npy", shared=True) as temporary:
            temporary.write_bytes(b"torn")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    with replacing(tmp_path / "a.npy", shared=True) as temporary:
        assert temporary != left
        temporary.write_bytes(b"whole")
    assert (tmp_path / "a.npy").read_bytes() == b"whole" and left.read_bytes() == b"torn"


def test_sha256_of_more_than_a_block(tmp_path):
    content = os.urandom(1 << 20) + b"and a bit"
    (tmp_path / "f").write_bytes(content)
    assert sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()
