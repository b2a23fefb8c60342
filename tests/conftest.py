import pytest
import torch

from datasets import prepare


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks: threads cost more than they give, and much more on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
    """16 + 8 drawn scenes of 32x64."""
    path = tmp_path_factory.mktemp("stores") / "toy 32x64"
    counts = ["--num_train", "16", "--num_val", "8"]
    prepare.main(["toy_street", "--out", str(path), "--height", "32", "--width", "64", *counts, "--workers", "1"])
    return path
