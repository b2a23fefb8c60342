import pytest
import torch

from SPADE.engine.determinism import deterministic


def test_it_is_asked_for_inside_only():
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_operation_without_such_a_kernel_is_named():
    with deterministic(True), pytest.warns(UserWarning, match="deterministic"):
        torch.histc(torch.rand(100, device="cuda"), 10)
