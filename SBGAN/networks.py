"""The progressive generator and discriminator of layouts, and of RGB images for the baseline.

Karras et al., *Progressive Growing of GANs*, ICLR 2018; Azadi et al., *Semantic Bottleneck Scene Generation*, 2019.
Block i works at height 4 * 2^i and width aspect * height. Resolution (a height) and fade-in are arguments of forward.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from SBGAN.discretize import ShareMixture
from SPADE.engine.device import widened
from SPADE.ops.convolution import conv2d, upsampled_conv3x3

LEAK = 0.2


def block_channels(block: int, fmap_base: int, fmap_max: int) -> tuple[int, int]:
    """Numbers of channels of a block, on its latent side and on its pixel side."""
    return max(min(fmap_max, fmap_base >> block), 1), max(min(fmap_max, fmap_base >> (block + 1)), 1)


def block_of(resolution: int) -> int:
    """Index of the block that works at this height; a height that is not 4, 8, 16, ... is a bug."""
    block = resolution.bit_length() - 3
    if block < 0 or resolution != 4 << block:
        raise ValueError(f"resolution {resolution} is not 4, 8, 16, ...")
    return block


class EqualizedConv2d(nn.Module):
    """Convolution whose weight is N(0,1) and is scaled by gain / sqrt(fan_in) at run time (Karras et al. 2018, 4.1)."""

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=0, gain=math.sqrt(2)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = gain / math.sqrt(in_channels * kernel * kernel)
        self.stride = stride if isinstance(stride, tuple) else (stride, stride)
        self.padding = padding, padding

    def forward(self, x):
        return conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding, twice=True)


class EqualizedLinear(nn.Module):
    """Linear layer with the same run-time scaling."""

    def __init__(self, in_features, out_features, gain=math.sqrt(2)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = gain / math.sqrt(in_features)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias)


def mean_square(x):
    """Mean over channels, [N,K,...] -> [N,1,...], float32 for half precision."""
    return widened(x).square().mean(1, keepdim=True)


def rms_pixel_norm(x):
    """x / sqrt(mean_c(x^2) + 1e-8) (Karras et al. 2018, section 4.2)."""
    return x * torch.rsqrt(mean_square(x) + 1e-8).to(x.dtype)


def mean_square_pixel_norm(x):
    """x / (mean_c(x^2) + 1e-8), without the root: what the released SB-GAN weights were trained with."""
    return x / (mean_square(x) + 1e-8).to(x.dtype)


PIXEL_NORMS = {"rms": rms_pixel_norm, "mean_square": mean_square_pixel_norm}


def upsample(x):
    """Nearest, [N,K,h,w] -> [N,K,2h,2w]."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def fading(alpha) -> bool:
    """Is the finest block being faded in? alpha: its share, a float; for compiled networks a tensor [] while it fades,
    since they would be compiled anew for each float."""
    return isinstance(alpha, torch.Tensor) or alpha < 1


def lerp(coarse, fine, alpha):
    return (1 - alpha) * coarse + alpha * fine


class FirstBlock(nn.Module):
    """Latent [N,latent_dim] -> [N,K,4,4*aspect].

    told: of a generator that is told class shares [N,C]; the latent's last C + 1 entries draw those that are not given.
    """

    def __init__(self, latent_dim, channels, aspect, pixel_norm, told: ShareMixture | None = None):
        super().__init__()
        self.of_shares = 0 if told is None else told.means.shape[1] + 1
        inputs = latent_dim - (told is not None)  # C shares in the place of C + 1 entries
        self.fc1 = EqualizedLinear(inputs, channels * 16 * aspect, gain=math.sqrt(2) / 4)
        self.conv2 = EqualizedConv2d(channels, channels, 3, padding=1)
        self.shape = (channels, 4, 4 * aspect)
        self.pixel_norm, self.told = pixel_norm, told

    def shares_of(self, z):
        return None if self.told is None else self.told(z[:, -self.of_shares :])

    def forward(self, z, shares=None):
        if self.told is not None:
            shares = self.shares_of(z) if shares is None else shares
            z = z[:, : -self.of_shares]
        x = self.pixel_norm(z)
        if shares is not None:
            x = torch.cat([x, (shares * shares.shape[1]).sqrt()], 1)  # of mean square 1, as the latent is
        x = self.fc1(x).unflatten(1, self.shape)
        x = self.pixel_norm(F.leaky_relu_(x, LEAK))
        return self.pixel_norm(F.leaky_relu_(self.conv2(x), LEAK))


class UpBlock(nn.Module):
    """[N,in,h,w] -> [N,out,2h,2w]."""

    def __init__(self, in_channels, out_channels, pixel_norm, plain=False):
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = EqualizedConv2d(out_channels, out_channels, 3, padding=1)
        self.pixel_norm, self.plain = pixel_norm, plain

    def forward(self, x):
        x = upsampled_conv3x3(x, self.conv1.weight * self.conv1.scale, self.conv1.bias, self.plain)
        x = self.pixel_norm(F.leaky_relu_(x, LEAK))
        return self.pixel_norm(F.leaky_relu_(self.conv2(x), LEAK))


class ProgressiveGenerator(nn.Module):
    """Trunk and 1x1 heads; the subclasses say what the heads' outputs mean and how two of them are blended."""

    def __init__(
        self,
        out_channels: int,  # classes, or 3 for RGB
        aspect: int,  # width / height, 1 or 2
        max_resolution: int,  # height of the finest block, a power of two >= 4
        latent_dim: int = 512,
        fmap_base: int = 8192,  # block i has fmap_base / 2^(i+1) channels on its pixel side,
        fmap_max: int = 512,  # but never more than this
        pixel_norm: str = "rms",  # "rms", or "mean_square" to run weights of the released code
        share_components: int = 0,  # > 0: told class shares, by a mixture of so many Gaussians where nobody wishes
        plain: bool = False,  # operations as PyTorch has them, for exports and to compare with
    ):
        super().__init__()
        self.arguments = dict(
            out_channels=out_channels,
            aspect=aspect,
            max_resolution=max_resolution,
            latent_dim=latent_dim,
            fmap_base=fmap_base,
            fmap_max=fmap_max,
            pixel_norm=pixel_norm,
        )
        if share_components:  # left out otherwise, as in older checkpoints
            self.arguments["share_components"] = share_components
        self.latent_dim, self.max_resolution = latent_dim, max_resolution
        norm = PIXEL_NORMS[pixel_norm]
        widths = [block_channels(i, fmap_base, fmap_max) for i in range(block_of(max_resolution) + 1)]
        told = ShareMixture(out_channels, share_components) if share_components else None
        blocks = [FirstBlock(latent_dim, widths[0][1], aspect, norm, told)]
        blocks += [UpBlock(a[1], b[1], norm, plain) for a, b in zip(widths, widths[1:], strict=False)]
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleList([EqualizedConv2d(out, out_channels, 1, gain=1.0) for _, out in widths])

    def shares_of(self, z):
        """The class shares that latents draw, [N,C]; None for a generator that is not told any."""
        return self.blocks[0].shares_of(z)

    def head_outputs(self, z, resolution: int, alpha: float, shares=None):
        """Heads of the block before the last, [N,C,h/2,w/2] (None unless alpha < 1), and of the last, [N,C,h,w].

        A 1x1 convolution commutes with nearest upsampling, so the coarse head runs before the upsampling: the numbers
        are the same at a quarter of the cost. What comes out is float32 also under autocast.
        """
        last = block_of(resolution)
        x, coarse = z, None
        for i in range(last + 1):
            if i == last and i > 0 and fading(alpha):
                coarse = widened(self.heads[i - 1](x))
            x = self.blocks[i](x) if i else self.blocks[0](z, shares)
        return coarse, widened(self.heads[last](x))


class LayoutGenerator(ProgressiveGenerator):
    def forward(self, z, resolution: int | None = None, alpha: float = 1.0, shares=None):
        """z float [N,latent_dim] -> log-probabilities [N,C,h,w] of the classes at each pixel.

        shares: float [N,C], of the classes, for a generator that is told them; by default those that z draws.

        In a fade (alpha < 1) the probabilities of two resolutions are blended, hence the logarithm of a sum, clamped
        at the smallest normal float.
        """
        coarse, fine = self.head_outputs(z, resolution or self.max_resolution, alpha, shares)
        if coarse is None:
            return fine.log_softmax(1)
        blend = lerp(upsample(coarse.softmax(1)), fine.softmax(1), alpha)
        return blend.clamp_min(torch.finfo(blend.dtype).tiny).log()


class ImageGenerator(ProgressiveGenerator):
    def forward(self, z, resolution: int | None = None, alpha: float = 1.0):
        """z float [N,latent_dim] -> RGB image [N,3,h,w], about in [-1,1] (the head is linear)."""
        coarse, fine = self.head_outputs(z, resolution or self.max_resolution, alpha)
        return fine if coarse is None else lerp(upsample(coarse), fine, alpha)


class DownBlock(nn.Module):
    """[N,in,h,w] -> [N,out,h/2,w/2]."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = EqualizedConv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x):
        x = F.leaky_relu_(self.conv1(x), LEAK)
        x = F.leaky_relu_(self.conv2(x), LEAK)
        return F.avg_pool2d(x, 2)


def minibatch_std(x, batches: int = 1, group: int = 4):
    """Appends a channel: the standard deviation within groups of samples, averaged over channels and pixels.

    Karras et al. 2018, section 3. [N,K,h,w] -> [N,K+1,h,w]. x: so many batches of one size, whose samples form no
    groups with another's. Where that size is no multiple of the group's, the largest group that divides it is taken.
    """
    n, k, h, w = x.shape
    size = n // batches
    group = next(g for g in range(min(group, size), 0, -1) if size % g == 0)
    y = x.reshape(n // group, group, k, h, w)  # neighbours form a group, so that processes split a batch between groups
    y = (y.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))  # [N/group]
    return torch.cat([x, y.repeat_interleave(group)[:, None, None, None].expand(n, 1, h, w)], 1)


class LastBlock(nn.Module):
    """[N,in,4,4*aspect] -> score [N,1]. In float32 also under autocast: small, and a score decides by differences."""

    def __init__(self, in_channels, channels, aspect, minibatch_stats):
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels + minibatch_stats, in_channels, 3, stride=(1, aspect), padding=1)
        self.conv2 = EqualizedConv2d(in_channels, channels, 4)
        self.fc3 = EqualizedLinear(channels, 1)
        self.minibatch_stats = minibatch_stats

    def forward(self, x, batches: int = 1):
        with torch.autocast(x.device.type, enabled=False):
            x = widened(x)
            if self.minibatch_stats:
                x = minibatch_std(x, batches)
            x = F.leaky_relu_(self.conv1(x), LEAK)  # [N,in,4,4]
            x = F.leaky_relu_(self.conv2(x), LEAK)  # [N,channels,1,1]
            return self.fc3(x.flatten(1))


class ProgressiveDiscriminator(nn.Module):
    """Mirror image of the generator, for one-hot layouts or RGB images."""

    def __init__(
        self,
        in_channels: int,  # classes, or 3 for RGB
        aspect: int,
        max_resolution: int,
        fmap_base: int = 8192,
        fmap_max: int = 512,
        minibatch_stats: bool = True,  # off for weights of the released code
    ):
        super().__init__()
        self.arguments = dict(
            in_channels=in_channels,
            aspect=aspect,
            max_resolution=max_resolution,
            fmap_base=fmap_base,
            fmap_max=fmap_max,
            minibatch_stats=minibatch_stats,
        )
        self.max_resolution = max_resolution
        widths = [block_channels(i, fmap_base, fmap_max) for i in range(block_of(max_resolution) + 1)]
        self.inputs = nn.ModuleList([EqualizedConv2d(in_channels, out, 1, gain=1.0) for _, out in widths])
        blocks = [LastBlock(widths[0][1], widths[0][0], aspect, minibatch_stats)]
        blocks += [DownBlock(this[1], previous[1]) for previous, this in zip(widths, widths[1:], strict=False)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x, resolution: int | None = None, alpha: float = 1.0, batches: int = 1):
        """x float [N,C,h,w] at the given resolution -> scores [N,1]. batches: of one size that x consists of."""
        last = block_of(resolution or self.max_resolution)
        y = F.leaky_relu_(self.inputs[last](x), LEAK)
        for i in range(last, -1, -1):
            y = self.blocks[i](y) if i else self.blocks[i](y, batches)
            if i == last and i > 0 and fading(alpha):
                coarse = F.leaky_relu_(self.inputs[i - 1](F.avg_pool2d(x, 2)), LEAK)
                y = lerp(coarse, y, alpha)
        return y
