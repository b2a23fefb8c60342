"""Class shares that a generator is told: the mixture against what it was fitted to, the loss against PyTorch's, and a
short training through all stages."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from SBGAN import generate, load, train_finetune_end2end, train_progressive, train_progressive_seg
from SBGAN.discretize import ShareMixture, class_proportions
from SBGAN.drawing.search import with_the_rest
from SBGAN.losses import share_divergence, told_losses
from SBGAN.networks import LayoutGenerator
from SBGAN.train_progressive_seg import components_for
from SPADE import train as train_spade
from tests.SBGAN import test_stages as stages

MEANS = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])


@pytest.fixture(scope="module")
def clusters():
    """Shares of two kinds, one twice as frequent."""
    random = torch.Generator().manual_seed(0)
    shares = MEANS[[0, 1, 1]].repeat(200, 1) + 0.02 * torch.randn(600, 3, generator=random)
    return shares / shares.sum(1, keepdim=True)


def test_the_mixture_finds_its_clusters(clusters):
    mixture = ShareMixture(3, 2)
    mixture.fit(clusters)
    order = mixture.weights.argsort()
    assert torch.allclose(mixture.weights[order], torch.tensor([1 / 3, 2 / 3]), atol=1e-3)
    assert torch.allclose(mixture.means[order], MEANS, atol=0.01)
    for component, members in zip(
        order.tolist(), (clusters[::3], clusters[[i for i in range(600) if i % 3]]), strict=True
    ):
        factor = mixture.factors[component]
        wanted = torch.from_numpy(np.cov(members.T.double().numpy(), bias=True)).float()
        assert torch.allclose(factor @ factor.T, wanted + 1e-5 * torch.eye(3), atol=2e-6)


def test_the_fit_is_likelier_than_one_gaussian_and_than_its_start(clusters):
    def likelihood(mixture):
        normal = MultivariateNormal(mixture.means.double(), scale_tril=mixture.factors.double())
        return MixtureSameFamily(Categorical(mixture.weights.double()), normal).log_prob(clusters.double()).mean()

    one, two = ShareMixture(3, 1), ShareMixture(3, 2)
    one.fit(clusters), two.fit(clusters)
    assert likelihood(two) > likelihood(one) + 0.5


def test_draws_are_shares_as_they_were_fitted(clusters):
    mixture = ShareMixture(3, 2)
    mixture.fit(clusters)
    drawn = mixture(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(1)))
    assert (drawn >= 0).all() and torch.allclose(drawn.sum(1), torch.ones(20_000))
    assert torch.allclose(drawn.mean(0), clusters.mean(0), atol=0.01)
    assert torch.allclose(drawn.T.cov(), clusters.T.cov(), atol=0.002)


def test_divergence_is_pytorchs():
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 5, 3, 6, generator=random).log_softmax(1)
    shares = torch.rand(4, 5, generator=random)
    shares[:, 0] = 0
    shares /= shares.sum(1, keepdim=True)
    mean = scores.exp().mean((2, 3))
    wanted = F.kl_div(mean.log(), shares, reduction="batchmean")
    assert torch.allclose(share_divergence(scores, shares), wanted)
    assert share_divergence(scores, mean) < 1e-6
    terms = told_losses(scores, shares, 3.0, 0.5)
    entropy = Categorical(logits=scores.movedim(1, -1)).entropy().mean()
    assert torch.allclose(terms["shares"], 3 * wanted) and torch.allclose(terms["doubt"], entropy / 2)


def test_wishes_leave_the_rest_as_it_was():
    nan = float("nan")
    wished, drawn = torch.tensor([[0.4, nan, nan], [nan, nan, nan]]), torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.3, 0.5]])
    assert torch.allclose(with_the_rest(wished, drawn), torch.tensor([[0.4, 0.12, 0.48], [0.2, 0.3, 0.5]]))


def test_a_told_generator_depends_on_what_it_is_told():
    torch.manual_seed(0)
    generator = LayoutGenerator(3, 2, 8, latent_dim=10, fmap_max=8, share_components=2)
    z = torch.randn(2, 10)
    drawn = generator.shares_of(z)
    assert torch.equal(generator(z), generator(z, shares=drawn))
    other = torch.tensor([[0.9, 0.05, 0.05]]).expand(2, -1)
    assert not torch.allclose(generator(z, shares=other), generator(z))
    moved = z.clone()
    moved[:, -4:] = 5  # the entries that draw shares, which now are given
    assert torch.equal(generator(moved, shares=other), generator(z, shares=other))
    assert components_for(5) == 1 and components_for(1000) == 8


@pytest.fixture(scope="module")
def folder(toy_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    at = (toy_store, folder)
    more = ["--num_eval", "8", "--latent_dim", "16", "--class_shares"]
    train_progressive_seg.main([*stages.logged(at, "layout"), *stages.LAYOUT, *more])
    train_spade.main([*stages.logged(at, "spade"), *stages.SPADE])
    train_finetune_end2end.main([*stages.logged(at, "finetune"), *stages.JOINED])
    return folder


def test_all_stages_know_it(folder, tmp_path, capsys):
    model = load(folder / "weights/finetune/finetune_2.pt", device="cpu")
    assert model.layout_generator.arguments["share_components"] == 2
    name = model.label_space.names[2]
    layouts, got = model.shares({name: 0.3}, num=2, steps=2)
    assert torch.allclose(got, class_proportions(layouts, 11))
    arguments = [
        "--checkpoint",
        folder / "weights/finetune/finetune_2.pt",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    generate.main([str(word) for word in (*arguments, "--shares", f"{name}=0.3", "--num", 2, "--steps", 2)])
    assert f"got {got[:, 2].mean():.4f}" in capsys.readouterr().out


def test_what_cannot_be_told(folder, toy_store, tmp_path, capsys):
    start = ["--from", str(folder / "weights/layout/layout_6.pt")]
    for main, flags, words in (
        (train_progressive_seg.main, ["--latent_dim", "12"], "--latent_dim is 12, but must be at least 13"),
        (train_progressive_seg.main, ["--latent_dim", "16", *start], "--class_shares is given beside --from"),
        (train_progressive.main, ["--latent_dim", "16"], "--class_shares is True"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*stages.places(toy_store, tmp_path, "told"), *stages.LAYOUT, "--class_shares", *flags])
        assert stop.value.code == 2 and words in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
