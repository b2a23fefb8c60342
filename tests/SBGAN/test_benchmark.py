"""Both forms that the benchmark times do the same work; its counts and its record are what they say."""

import json

import pytest
import torch

from datasets.errors import UserError
from SBGAN.benchmark import __main__ as benchmark
from SBGAN.benchmark import __main__ as measure
from SBGAN.benchmark.__main__ import count_operations
from SBGAN.benchmark.cases import CASES, FORMS, Sizes, layout_networks, load_pairs
from SPADE.engine import config as settings
from SPADE.engine.device import seed_everything
from SPADE.ops import winograd

SMALL = dict(height=64, layout_height=16, joint_layout_height=16, layout_batch_size=4, upsampling="normal")
SMALL |= dict(ngf=2, hidden=8, ndf=2, fmap_base=64, fmap_max=8)
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()] + ["--device=cpu", "--repeats=1", "--no_memory"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fewest", [0, 2**62])
def test_both_forms_give_the_same(case, fewest, monkeypatch):
    """The product's with and without Winograd's convolutions, the plain form without."""
    calls, product = [], winograd.product
    monkeypatch.setattr(winograd, "product", lambda *arguments: calls.append(1) or product(*arguments))
    for name in ("FEWEST_CHANNELS", "FEWEST_PIXELS"):
        monkeypatch.setattr(winograd, name, fewest)
    sizes = Sizes(**SMALL)
    pairs = load_pairs(sizes, torch.device("cpu"), num=4)
    found = {}
    for name in ("plain", "product fp32"):
        form = FORMS[name]
        seed_everything(0)
        step = CASES[case](sizes, pairs, form, torch.device("cpu"))
        seed_everything(1)
        found[name] = step(0)
        assert bool(calls) == (name == "product fp32" and fewest == 0)
    if case == "inference":
        torch.testing.assert_close(found["product fp32"], found["plain"], rtol=1e-4, atol=1e-5)
    else:
        assert found["product fp32"].keys() == found["plain"].keys()
        for key, value in found["plain"].items():
            torch.testing.assert_close(found["product fp32"][key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_the_compiled_form(monkeypatch):
    """Losses are the product's, and what is counted is the step as it is written. Traced only: kernels take long."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network, **how: compile_(network, backend="aot_eager"))
    found, sizes = {}, Sizes(**SMALL)
    for name in ("product fp32", "compiled fp32"):
        seed_everything(0)
        step = CASES["stage_1"](sizes, load_pairs(sizes, "cpu", num=2), FORMS[name], torch.device("cpu"))
        seed_everything(1)
        found[name] = step(0), count_operations(step)[0]
    torch.testing.assert_close(found["compiled fp32"], found["product fp32"], rtol=1e-4, atol=1e-5)


def test_the_products_number_format():
    """Losses differ from float32's, but not by more than the rounding of bf16."""
    found, sizes = {}, Sizes(**SMALL)
    for precision in ("fp32", "bf16"):
        seed_everything(0)
        form = FORMS[f"product {precision}"]
        found[precision] = CASES["stage_2"](sizes, load_pairs(sizes, "cpu", num=2), form, torch.device("cpu"))(0)
    for key, value in found["fp32"].items():
        assert found["bf16"][key] != value and found["bf16"][key].dtype == torch.float32, key
        torch.testing.assert_close(found["bf16"][key], value, rtol=0.05, atol=0.01, msg=key)
    assert [FORMS[name].precision for name in ("plain", "product fp32", "product bf16")] == ["fp32", "fp32", "bf16"]


def operations(case, **sizes):
    """Counts those of a turn of the product's form."""
    sizes = Sizes(**SMALL | sizes)
    step = CASES[case](sizes, load_pairs(sizes, "cpu", num=4), FORMS["product fp32"], torch.device("cpu"))
    return count_operations(benchmark.turn(step, sizes.penalty_every))[0]


def test_reused_samples_leave_out_a_pass_of_the_generator():
    assert operations("stage_2") - operations("stage_2", reuse_fakes=True) == operations("inference")


@pytest.mark.parametrize("case", ["stage_1", "stage_3"])
def test_a_lazy_penalty_is_paid_once_a_turn(case):
    """Turns of 1, 2 and 4 steps are so many times a step without the penalty and one penalty."""
    of_1, of_2, of_4 = (operations(case, penalty_every=every) for every in (1, 2, 4))
    assert of_4 - of_2 == 2 * (of_2 - of_1) and of_2 < 2 * of_1


def test_the_plain_form_stays_as_published():
    sizes = Sizes(**SMALL, penalty_every=4, reuse_fakes=True)
    seed_everything(0)
    step = CASES["stage_1"](sizes, load_pairs(sizes, "cpu", num=4), FORMS["plain"], torch.device("cpu"))
    assert all("discriminator/gradient_penalty" in step(i) for i in range(2))


def test_operations_are_twice_the_multiply_adds():
    conv, x = torch.nn.Conv2d(3, 5, 3, padding=1), torch.zeros(2, 3, 8, 16, requires_grad=True)
    forward = 2 * 9 * 3 * 5 * 2 * 8 * 16
    assert count_operations(lambda i: conv(x)) == (forward, 1)

    def with_penalty(i):  # a gradient within a step must not upset the counter
        torch.autograd.grad(conv(x).sum(), x)

    assert count_operations(with_penalty)[0] == 2 * forward


def test_the_record_and_the_table(tmp_path, capsys, monkeypatch):
    # On a CPU without bf16 one measurement of the real rate takes a minute.
    monkeypatch.setattr(
        benchmark, "convolution_rate", lambda precision, device: {"fp32": 1e11, "bf16": 2e11}[precision]
    )
    flags = ["--cases=inference,stage_1", "--precisions=fp32,bf16", f"--json={tmp_path / 'new' / 'figures.json'}"]
    benchmark.main([*FLAGS, *flags])
    record = json.loads((tmp_path / "new" / "figures.json").read_text())
    assert record["data"] == "toy_street" and list(record["cases"]) == ["inference", "stage_1"]
    for case, figures in record["cases"].items():
        plain, product, half = figures.values()
        assert product["ratio"] == plain["seconds"] / product["seconds"] and plain["ratio"] == 1
        assert half["convolution_rate"] != product["convolution_rate"] == plain["convolution_rate"]
        assert product["operations"] <= plain["operations"]
        assert product["images_per_second"] == pytest.approx({"stage_1": 4}.get(case, 1) / product["seconds"])
        assert product["calls"] > 100 and product["launches"] is None
    assert product["operations"] < plain["operations"]  # of stage 1: sub-pixel convolutions, nothing for the frozen
    assert "inference" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_rate_is_operations_over_seconds(precision, monkeypatch):
    """A clock on which every convolution takes half a second; the convolution itself may be of any size."""
    monkeypatch.setattr(measure, "seconds", lambda *arguments: 0.5)
    operations = 2 * 9 * 256 * 256 * 4 * 64 * 128
    assert measure.convolution_rate(precision, torch.device("cpu")) == operations / 0.5


def test_the_peak_holds_the_weights_with_their_gradients_and_optimisers():
    config = benchmark.BenchmarkSettings(**SMALL | dict(fmap_base=2048, fmap_max=256, layout_batch_size=1))
    generator, discriminator = layout_networks(config, 16, load_pairs(config, "cpu", 1), FORMS["plain"], "cpu")
    weights = sum(p.numel() for network in (generator, discriminator) for p in network.parameters())
    peak = benchmark.peak_in_own_process(config, "stage_1", "plain", torch.device("cpu"))
    assert 4 * 4 * weights < peak < 4 * 4 * weights + 2**30


def test_user_errors(toy_store):
    for flags, words in (
        (["--cases", "stage_4"], "stage_4"),
        (["--store", str(toy_store)], "64x128"),
        (["--repeats", "0"], "repeats"),
        (["--precisions", "fp32,fp8"], "fp8"),
    ):
        with pytest.raises(UserError, match=words):
            benchmark.run(settings.parse(benchmark.BenchmarkSettings, [*FLAGS, *flags]))
