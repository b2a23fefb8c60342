import pytest
import torch

from datasets import prepare
from SPADE.ops import winograd


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks: threads cost more than they give, and much more on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def winograd_everywhere():
    """Also in networks as small as the tests' the convolutions take Winograd's form where they can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "FEWEST_CHANNELS", 0)
        patch.setattr(winograd, "FEWEST_PIXELS", 0)
        yield


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
    """16 + 8 drawn scenes of 32x64."""
    path = tmp_path_factory.mktemp("stores") / "toy 32x64"
    counts = ["--num_train", "16", "--num_val", "8"]
    prepare.main(["toy_street", "--out", str(path), "--height", "32", "--width", "64", *counts, "--workers", "1"])
    return path
