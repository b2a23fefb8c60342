"""Class shares that a layout generator is told (Le Moing et al., *Semantic Palette*, CVPR 2021, section 3).

The generator gets the wished-for shares of the classes, [N,C], rows that sum to 1; where nobody wishes, a Gaussian
mixture fitted to the training layouts' shares gives them, drawn from the last entries of the latent, so that a sample
still depends on its latent alone.
"""

import math

import torch
from scipy.cluster.vq import kmeans2
from torch import nn
from torch.distributions import MultivariateNormal

from datasets.reader import layouts_in_order
from SBGAN.discretize import class_proportions

COMPONENTS = 8
FEWEST = 8  # layouts for each component
ROUNDS = 50  # of expectation and maximisation
RIDGE = 1e-5  # added to the variances: shares sum to 1, so that covariances are singular


class ShareMixture(nn.Module):
    """Standard normal noise [N,C+1] -> class shares [N,C]."""

    def __init__(self, num_classes: int, components: int):
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.full((components, num_classes), 1 / num_classes))
        self.register_buffer("factors", torch.zeros(components, num_classes, num_classes))  # of covariances: L L^T

    @torch.no_grad()
    def fit(self, shares, seed: int = 0):
        """Expectation-maximisation from k-means on shares float [N,C]."""
        x = shares.double()
        count = len(self.weights)
        _, nearest = kmeans2(x.numpy(), count, minit="++", seed=seed)
        belongs = torch.eye(count, dtype=torch.double)[torch.from_numpy(nearest).long()]  # [N,K], rows sum to 1
        for _ in range(ROUNDS):
            weights, means, covariances = moments(x, belongs)
            densities = MultivariateNormal(means, covariances).log_prob(x[:, None])  # [N,K]
            belongs = (densities + weights.log()).softmax(1)
        for buffer, value in zip(self.buffers(), (weights, means, torch.linalg.cholesky(covariances)), strict=True):
            buffer.copy_(value)

    def forward(self, noise):
        uniform = (1 + torch.erf(noise[:, :1] / math.sqrt(2))) / 2
        component = (uniform > self.weights.cumsum(0)[:-1]).sum(1)  # [N]
        drawn = self.means[component] + (self.factors[component] @ noise[:, 1:, None])[..., 0]
        return normalised(drawn)


def moments(x, belongs):
    """Weight [K], mean [K,C] and covariance [K,C,C] of each component, from x [N,C] and how far it belongs, [N,K]."""
    mass = belongs.sum(0) + 1e-9
    means = belongs.T @ x / mass[:, None]
    apart = x[:, None] - means  # [N,K,C]
    covariances = torch.einsum("nk,nkc,nkd->kcd", belongs, apart, apart) / mass[:, None, None]
    return mass / mass.sum(), means, covariances + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)


def normalised(shares):
    """Shares with 0 for what is below: rows of [N,C] that sum to 1."""
    shares = shares.clamp_min(1e-6)
    return shares / shares.sum(1, keepdim=True)


def fitted(mixture: ShareMixture, split, rows: int):
    """Fits the mixture to the layouts of a split, at so many rows."""
    shares = [
        class_proportions(layouts_in_order(split, i, min(i + 256, len(split)), rows), mixture.means.shape[1])
        for i in range(0, len(split), 256)
    ]
    mixture.fit(torch.cat(shares))


def components_for(num_layouts: int) -> int:
    return max(1, min(COMPONENTS, num_layouts // FEWEST))


def with_the_rest(wished, drawn):
    """Wishes [N,C] filled up where they are NaN, which is any share: what is left is divided as in `drawn` [N,C]."""
    free = wished.isnan()
    rest = torch.where(free, drawn, 0.0)
    left = (1 - wished.nan_to_num().sum(1, keepdim=True)).clamp_min(0)
    return torch.where(free, rest / rest.sum(1, keepdim=True).clamp_min(1e-9) * left, wished)
