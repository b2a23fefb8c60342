"""--compile: losses, gradients and buffers are those of the networks as they are written; so are the files of a run.

Whole networks are traced, and their backward passes with them, but run by PyTorch's own kernels (`aot_eager`): to make
kernels of them takes minutes. A block is compiled to the end.
"""

import copy
import shutil

import pytest
import torch
from torch import nn

from datasets.errors import UserError
from SBGAN.losses import discriminator_losses
from SBGAN.networks import DownBlock, LayoutGenerator, ProgressiveDiscriminator
from SPADE import losses
from SPADE.engine.compilation import as_written, check_compiler, compile_networks
from SPADE.engine.device import evaluating, place
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator
from tests.runs import MAIN, arguments, curves, final

CPU = torch.device("cpu")


@pytest.fixture
def traced(monkeypatch):
    """Networks are traced and not made kernels of; counts those that are."""
    compile_, made = nn.Module.compile, []
    monkeypatch.setattr(nn.Module, "compile", lambda network, **how: made.append(how) or compile_(
        network, backend="aot_eager", **how))  # fmt: skip
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield made
    torch._dynamo.reset()


def graphs() -> int:
    """Functions compiled so far; parts that the compiler would leave out are a failure."""
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


def same(loss_of, networks):
    """Compares loss_of(*networks), its gradients and the buffers it leaves with those of the same networks compiled,
    which are returned."""
    compiled = [copy.deepcopy(network) for network in networks]
    compile_networks(compiled, CPU)
    found = [loss_of(*those) for those in (networks, compiled)]
    for loss in found:
        loss.backward()
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
    for one, other in zip(networks, compiled, strict=True):
        assert one.state_dict().keys() == other.state_dict().keys()
        for name, parameter in one.named_parameters():
            gradient, wanted = other.get_parameter(name).grad, parameter.grad
            assert (gradient is None) == (wanted is None), name
            if wanted is not None:
                scale = 1e-5 * (1 + float(wanted.abs().max()))
                torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=scale, msg=name)
        for name, buffer in one.named_buffers():
            torch.testing.assert_close(other.get_buffer(name), buffer, rtol=1e-5, atol=1e-5, msg=name)
    return compiled


def test_a_step_of_spade(traced):
    torch.manual_seed(0)
    shapes = dict(interpolation="bilinear", noise=True, gain=1.0)
    generator = place(SPADEGenerator(5, 32, 64, 2, 5, 4, **shapes), CPU)
    critic = place(MultiscaleDiscriminator(8, 2), CPU)
    labels, images = torch.randint(5, (2, 1, 32, 64)).to(torch.uint8), torch.rand(2, 3, 32, 64) * 2 - 1

    def loss(generator, critic):
        pair = labels, images, losses.Weights()
        return sum(losses.generator_losses(generator, critic, *pair).values())

    same(loss, [generator, critic])
    assert graphs() == len(traced) == 2 and all(not how["dynamic"] for how in traced)


def test_a_step_of_the_layout_gan_in_a_fade(traced):
    """The penalty runs as it is written, differentiating a gradient; another alpha is no new graph."""
    torch.manual_seed(0)
    shape = dict(aspect=2, max_resolution=8, fmap_max=8)
    generator = place(LayoutGenerator(5, latent_dim=4, **shape), CPU)
    critic = place(ProgressiveDiscriminator(5, **shape), CPU)
    real, z, mix = torch.rand(8, 5, 8, 16), torch.randn(8, 4), torch.rand(8)

    def loss(generator, critic, alpha=0.25):
        def score(x, batches=1):
            return critic(x, 8, torch.tensor(alpha), batches)

        fake = generator(z, 8, torch.tensor(alpha)).exp()
        return sum(discriminator_losses("wgan_gp", score, real, fake, mix, 10.0).values())

    networks = [generator, critic]
    compiled = same(loss, networks)
    assert graphs() == 2
    torch.testing.assert_close(loss(*compiled, alpha=0.5), loss(*networks, alpha=0.5), rtol=1e-5, atol=1e-5)
    assert graphs() == 2
    plain = generator(z, 8, 0.25)  # as the loop calls it where nothing is compiled
    torch.testing.assert_close(generator(z, 8, torch.tensor(0.25)), plain, rtol=1e-6, atol=1e-6)


def test_what_is_shown_runs_as_it_is_written(traced):
    network, x = DownBlock(3, 4), torch.ones(1, 3, 4, 4)
    compile_networks([network], CPU)
    with evaluating(network):
        network(x)
    with as_written():
        network(x)
    assert graphs() == 0
    network(x)
    assert graphs() == 1


def test_a_run(traced, toy_store, tmp_path):
    """The first losses, and the names in its checkpoint."""
    stage = "layout"
    for folder, more in (("plain", []), ("compiled", ["--compile"])):
        MAIN[stage](arguments(stage, toy_store, tmp_path / folder, *more))
    one, other = final(stage, tmp_path / "plain"), final(stage, tmp_path / "compiled")
    assert one.keys() == other.keys() and graphs() > 4
    first, found = (curves(stage, tmp_path / folder) for folder in ("plain", "compiled"))
    for name in ("generator/wgan", "discriminator/gradient_penalty"):
        assert found[name][0][1] == pytest.approx(first[name][0][1], rel=1e-5)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no compiler here")
def test_a_block_is_compiled_to_the_end():
    torch._dynamo.reset()
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    same(lambda block: block(x).square().mean(), [DownBlock(3, 4)])


@pytest.mark.parametrize("device, words", [("cpu", "no g\\+\\+"), ("cuda", "no C compiler")])
def test_no_compiler_is_one_sentence(monkeypatch, device, words):
    monkeypatch.setenv("PATH", "")
    check_compiler(False, torch.device(device))
    with pytest.raises(UserError, match=f"--compile is given, but there is {words}.*leave the flag out"):
        check_compiler(True, torch.device(device))
