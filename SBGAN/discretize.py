"""Class scores -> hard layouts, and the shares of classes in these. Soft maps never leave for SPADE or a critic."""

import math

import torch
from scipy.cluster.vq import kmeans2
from torch import nn
from torch.distributions import MultivariateNormal

RELEASED_NOISE_FLOOR = 1e-10  # goes with RELEASED_FLOOR, inside the other logarithm
RELEASED_FLOOR = 1e-5
CELLS = 4  # of the grid, in each direction


class HardSample(torch.autograd.Function):
    """One-hot of argmax forward, gradient of softmax(scores / temperature) backward.

    One saved tensor instead of the several that `hard - soft.detach() + soft` keeps, and a value that is 0 or 1 to
    the bit.
    """

    @staticmethod
    def forward(ctx, scores, temperature):
        ctx.temperature = temperature
        ctx.save_for_backward((scores / temperature).softmax(1))
        return torch.zeros_like(scores).scatter_(1, scores.argmax(1, keepdim=True), 1.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (soft,) = ctx.saved_tensors
        inner = (gradient * soft).sum(1, keepdim=True)
        return soft * (gradient - inner) / ctx.temperature, None


def exponential_noise(shape, device):
    """The noise of `straight_through`, float [N,C,h,w], channels last as the layouts are."""
    noise = torch.empty(shape, device=device, memory_format=torch.channels_last)
    return noise.exponential_()


def straight_through(log_probabilities, temperature: float = 1.0, floor: float = 0.0, exponential=None):
    """Straight-through Gumbel-softmax sample of a layout (Jang et al., *Categorical Reparameterization*, ICLR 2017).

    log_probabilities: float [N,C,h,w]. Returns one-hot float [N,C,h,w]; its gradient is that of
    softmax((log p - log E) / temperature), E ~ Exp(1).
    floor: the released code's log(p + 1e-5) (`RELEASED_FLOOR`), which lets every class appear with that probability at
    every pixel; 0 takes the log-probabilities as they are.
    exponential: the noise E, to repeat a draw; drawn here if not given.
    """
    if exponential is None:
        exponential = exponential_noise(log_probabilities.shape, log_probabilities.device)
    if floor:
        log_probabilities = torch.log(log_probabilities.exp() + floor)
        gumbel = -torch.log(exponential + RELEASED_NOISE_FLOOR)
    else:
        gumbel = -torch.log(exponential.clamp_min(torch.finfo(exponential.dtype).tiny))
    return HardSample.apply(log_probabilities + gumbel, temperature)


def plain_straight_through(log_probabilities, exponential):
    """The same by PyTorch's operations, one by one, at temperature 1 and without a floor."""
    soft = (log_probabilities - torch.log(exponential)).softmax(1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def argmax(log_probabilities, offsets=None):
    """The most probable class of each pixel, [N,C,h,w] -> uint8 labels [N,1,h,w]. Also reads one-hot layouts.

    offsets [C]: added to the log-probabilities of each class, see `share_offsets`.
    """
    if offsets is not None:
        log_probabilities = log_probabilities + offsets.view(-1, 1, 1)
    return log_probabilities.argmax(1, keepdim=True).to(torch.uint8)


@torch.no_grad()
def share_offsets(log_probabilities, steps: int = 80):
    """Offsets of log-probabilities with which arg-max has the shares of the probabilities: [P,C] -> [C].

    Plain arg-max leaves out what is nowhere the likeliest, though it often might be: poles, signs, people. The offsets
    are the dual variables of the optimal transport of the P pixels to classes of given shares: they minimise the mean
    of max_c(log p_c + b_c) less the sum of share_c b_c, whose gradient is the difference of the shares.
    """
    pixels = len(log_probabilities)
    wanted = log_probabilities.exp().mean(0)
    offsets = torch.zeros_like(wanted)
    each = torch.full_like(log_probabilities[:, 0], 1 / pixels)
    for step in range(steps):
        found = torch.zeros_like(wanted).scatter_add_(0, (log_probabilities + offsets).argmax(1), each)
        ratio = ((wanted + 1 / pixels) / (found + 1 / pixels)).log()  # a class of no pixel is wanted no more
        offsets += ratio.clamp(-1, 1) / (2 + step / 8)  # in steps that shrink, or it would go to and fro
    return offsets - offsets.mean()


def class_proportions(labels, num_classes):
    """labels uint8 [N,1,H,W] in 0..num_classes-1 -> share of pixels of each class, float64 [N,C], rows sum to 1."""
    return grid_proportions(labels, num_classes, cells=1)


def grid_proportions(labels, num_classes, cells=CELLS):
    """The same in each cell of a cells x cells grid: float64 [N,C*cells*cells], each cell of an image sums to 1.

    Proportions of a whole image say nothing of where things are. Cells differ by one row or column where the size is
    no multiple of `cells`.
    """
    n, _, height, width = labels.shape
    if min(height, width) < cells:
        raise ValueError(f"layouts of {height}x{width} cannot be cut into {cells}x{cells} cells")
    if int(labels.max()) >= num_classes:
        raise ValueError(f"layouts have class {int(labels.max())}, but num_classes is {num_classes}")

    row = torch.arange(height, device=labels.device) * cells // height  # [H]
    column = torch.arange(width, device=labels.device) * cells // width  # [W]
    cell = row[:, None] * cells + column  # [H,W]
    pixels_of_cell = torch.bincount(cell.flatten())  # [cells^2]

    bins = num_classes * cells**2
    proportions = []
    for batch in labels.split(64):  # bin numbers are int64, eight times the layouts' memory
        image = torch.arange(len(batch), device=labels.device)[:, None, None]
        bin_of_pixel = image * bins + batch[:, 0].long() * cells**2 + cell  # [n,H,W]
        counts = torch.bincount(bin_of_pixel.flatten(), minlength=len(batch) * bins)
        proportions.append(counts.view(len(batch), num_classes, cells**2).double() / pixels_of_cell)
    return torch.cat(proportions).view(n, bins)


# --- Class shares that a generator is told (Le Moing et al., *Semantic Palette*, CVPR 2021, section 3) ---
#
# The generator gets the shares that the classes are to have, [N,C], rows that sum to 1. Where nobody wishes for any,
# they are drawn from a Gaussian mixture fitted to the training layouts' shares. The numbers that draw them are the last
# entries of the latent, so that a sample still depends on its latent alone.

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
    """Weight [K], mean [K,C] and covariance [K,C,C] of each component.

    x: [N,C]; belongs: how much of each row is of which component, [N,K].
    """
    mass = belongs.sum(0) + 1e-9
    means = belongs.T @ x / mass[:, None]
    apart = x[:, None] - means  # [N,K,C]
    covariances = torch.einsum("nk,nkc,nkd->kcd", belongs, apart, apart) / mass[:, None, None]
    return mass / mass.sum(), means, covariances + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)


def normalised(shares):
    """Shares [N,C] without negative ones, scaled so that each row sums to 1."""
    shares = shares.clamp_min(1e-6)
    return shares / shares.sum(1, keepdim=True)
