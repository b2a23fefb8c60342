"""--precision bf16 through the commands: close to float32 at first, and everything that is kept is float32."""

import pytest
import torch

from tests.runs import curves, final, train

FIRST = {
    "layout": ["generator/wgan", "discriminator/gradient_penalty", "generator/layout_entropy"],
    "spade": ["generator/feature_matching", "discriminator/fake", "discriminator/real"],
    "finetune": ["discriminator/fake_generated", "discriminator/real_generated"],
}


@pytest.fixture(scope="module")
def runs(toy_store, tmp_path_factory):
    """Folder of each precision's runs of all stages."""
    folders = {precision: tmp_path_factory.mktemp(precision) for precision in ("fp32", "bf16")}
    for precision, folder in folders.items():
        for stage in FIRST:
            status, output = train(stage, toy_store, folder, "--precision", precision)
            assert status == 0, output
    return folders


@pytest.mark.parametrize("stage", ["layout", "spade"])  # stage 3 begins where these end, which differs by then
def test_the_first_losses_are_close(runs, stage):
    for tag in FIRST[stage]:
        half, full = (curves(stage, runs[precision])[tag][0][1] for precision in ("bf16", "fp32"))
        assert half == pytest.approx(full, rel=0.05, abs=0.01) and half != full, tag


@pytest.mark.parametrize("stage", FIRST)
def test_what_is_kept_is_float32_and_finite(runs, stage):
    for key, value in final(stage, runs["bf16"]).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert value.dtype == torch.float32 and value.isfinite().all(), key
    assert set(FIRST[stage]) <= curves(stage, runs["bf16"]).keys()
