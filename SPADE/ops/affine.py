"""Batch norm, its modulation and the leaky ReLU behind it as one operation, forward and backward.

One by one they write five maps of the image's size and keep four for the backward pass; this writes one, and keeps that
one and its input. A chunk of pixels goes through all of it while it is in the cache. Nearest upsampling by 2 before
that is part of it, so that the four equal pixels are read and centred once and their gradients summed at once.
Maps in half precision are read and written as such; whatever happens to a chunk happens in the moments' float32.
"""

import torch
import torch.nn.functional as F

from SPADE.engine.distributed import total, world_size
from SPADE.ops.neighbourhoods import Neighbourhoods, chunk_pixels

EPS, MOMENTUM = 1e-5, 0.1


def batch_norm_affine(
    x,  # [N,K,h,w]
    gamma_beta,  # gamma and beta: [N,2K,H,W], or [U,2K] for each of the U neighbourhoods that the layout is
    layout,  # what they were made of, see `two_convolutions`
    running_mean,  # [K], moved in training
    running_var,
    training: bool,
    upsample: bool = False,  # nearest, by 2, before anything else: H = 2h and W = 2w, otherwise H = h and W = w
    leak: float = 1.0,  # slope of the leaky ReLU behind it, 1 for none
    moments=None,  # `batch_moments` of x where the caller has them already
):
    """leaky_relu(BN(up(x)) * (1 + gamma) + beta), [N,K,H,W], with the statistics of all processes' batches together.

    `SPADENorm.equation` is its plain form.
    """
    if training:
        moments = moments or batch_moments(x)
        track(running_mean, running_var, *moments, x.numel() // x.shape[1] * (4 if upsample else 1))
    else:
        moments = running_mean, running_var
    if isinstance(layout, Neighbourhoods):
        return GatheredAffine.apply(x, gamma_beta, layout, *moments, upsample, leak, training)
    return DenseAffine.apply(x, gamma_beta.permute(0, 2, 3, 1).flatten(0, 2), *moments, upsample, leak, training)


@torch.no_grad()
def batch_moments(x):
    """Mean and biased variance [K] of x [N,K,h,w] over all processes, float32 for half precision.

    The gradient through them is left to the functions below.
    """
    unused = x.new_zeros(2, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))  # sets the moments' type
    mean, variance = torch.batch_norm_update_stats(x, *unused, 0.0)
    if world_size() > 1:
        own = mean.clone()
        total(mean.div_(world_size()))
        variance += (own - mean).square()  # of equally large parts: mean of variances, and variance of means
        total(variance.div_(world_size()))
    return mean, variance


@torch.no_grad()
def track(running_mean, running_var, mean, variance, count: int):
    """Moves the running moments towards those of `count` numbers in each process."""
    count *= world_size()
    running_mean.lerp_(mean, MOMENTUM)
    running_var.lerp_(variance * (count / max(count - 1, 1)), MOMENTUM)


class DenseAffine(torch.autograd.Function):
    """x [N,K,h,w], modulation [P,2K]: gamma and beta of each output pixel -> [N,K,H,W].

    own_moments: mean and variance are those of x, so that the gradient flows through them, too.
    """

    @staticmethod
    def forward(ctx, x, modulation, mean, variance, upsample, leak, own_moments):
        grid, inverse_std = Grid(x, upsample), torch.rsqrt(variance + EPS)
        pixels, output = pixel_rows(x), grid.empty_output(x)
        for here, there in grid.chunks():
            affine(grid, pixels[here] - mean, *fold(modulation[there], inverse_std), leak, out=output[there])
        output = grid.output_maps(output)
        ctx.save_for_backward(x, modulation, mean, inverse_std, output)
        ctx.upsample, ctx.leak, ctx.own_moments = upsample, leak, own_moments
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, modulation, mean, inverse_std, output = ctx.saved_tensors
        grid = Grid(x, ctx.upsample)
        of_x = InputGradient(x, grid, mean, inverse_std)
        output, gradient = pixel_rows(output), pixel_rows(gradient)
        of_modulation = torch.empty_like(modulation)
        for here, there in grid.chunks():
            g = before_leak(gradient[there], output[there], ctx.leak, mean.dtype)
            normalised = of_x.normalised(here)
            modulation_gradient(grid, g, normalised, out=of_modulation[there])
            of_x.put(here, grid.merge(g * fold(modulation[there], inverse_std)[0]), normalised)
        return of_x.finished(ctx.own_moments), of_modulation, None, None, None, None, None


class GatheredAffine(torch.autograd.Function):
    """The same with modulation [U,2K], gamma and beta of each of the neighbourhoods."""

    @staticmethod
    def forward(ctx, x, modulation, neighbourhoods, mean, variance, upsample, leak, own_moments):
        grid, inverse_std = Grid(x, upsample), torch.rsqrt(variance + EPS)
        pixels, output = pixel_rows(x), grid.empty_output(x)
        scales, shifts = (part.contiguous() for part in fold(modulation, inverse_std))  # [U,K]
        for here, there in grid.chunks():
            index = neighbourhoods.index[there]
            scale, shift = scales.index_select(0, index), shifts.index_select(0, index)
            affine(grid, pixels[here] - mean, scale, shift, leak, out=output[there])
        output = grid.output_maps(output)
        ctx.save_for_backward(x, scales, mean, inverse_std, output)
        ctx.neighbourhoods, ctx.upsample, ctx.leak, ctx.own_moments = neighbourhoods, upsample, leak, own_moments
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, scales, mean, inverse_std, output = ctx.saved_tensors
        grid = Grid(x, ctx.upsample)
        of_x = InputGradient(x, grid, mean, inverse_std)
        output, gradient = pixel_rows(output), pixel_rows(gradient)
        bags_of_chunks, bags_of_neighbourhood = ctx.neighbourhoods.bags
        of_bags = scales.new_empty(len(bags_of_neighbourhood.rows), 2 * x.shape[1])
        for (here, there), (first, last, rows) in zip(grid.chunks(), bags_of_chunks, strict=True):
            g = before_leak(gradient[there], output[there], ctx.leak, mean.dtype)
            normalised = of_x.normalised(here)
            pairs = scales.new_empty(len(g), 2 * x.shape[1])
            modulation_gradient(grid, g, normalised, out=pairs)
            of_bags[first:last] = rows.sum(pairs)
            scale = scales.index_select(0, ctx.neighbourhoods.index[there])
            of_x.put(here, grid.merge(g * scale), normalised)
        of_modulation = bags_of_neighbourhood.sum(of_bags)  # [U,2K]
        return of_x.finished(ctx.own_moments), of_modulation, None, None, None, None, None, None


def pixel_rows(x):
    """[N,K,h,w] -> [N*h*w,K]; a view if x is channels last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous().flatten(0, 2)


def maps(pixels, n: int, height: int, width: int):
    """[N*h*w,K] -> [N,K,h,w], channels last."""
    return pixels.view(n, height, width, pixels.shape[1]).permute(0, 3, 1, 2)


class Grid:
    """Input pixels [p,K] and the output's, [P,K]: as many, or `copies` in each direction for each of them."""

    def __init__(self, x, upsample: bool):
        self.n, _, self.height, self.width = x.shape
        self.copies = 2 if upsample else 1
        self.chunk = chunk_pixels(self.copies * self.width, x.device)
        self.total = self.n * self.height * self.width * self.copies**2

    def chunks(self):
        """(Slice of the input's pixels, slice of the output's) for each chunk of whole rows."""
        for start in range(0, self.total, self.chunk):
            there = slice(start, min(start + self.chunk, self.total))
            yield slice(there.start // self.copies**2, there.stop // self.copies**2), there

    def empty_output(self, x):
        """[P,K]"""
        return x.new_empty(self.total, x.shape[1])

    def output_maps(self, pixels):
        """[P,K] -> [N,K,H,W]"""
        return maps(pixels, self.n, self.height * self.copies, self.width * self.copies)

    def beside(self, chunk):
        """Input chunk [p,K] -> view [rows,1,width,1,K], which broadcasts against `split`."""
        return chunk.view(-1, 1, self.width, 1, chunk.shape[1])

    def split(self, chunk):
        """Output chunk [P,K] -> view [rows,copies,width,copies,K]."""
        return chunk.view(-1, self.copies, self.width, self.copies, chunk.shape[1])

    def merge(self, chunk):
        """Output chunk [P,K] -> sums over copies [p,K]."""
        if self.copies == 1:
            return chunk
        parts = self.split(chunk)
        return (parts[:, 0, :, 0] + parts[:, 0, :, 1]).add_(parts[:, 1, :, 0]).add_(parts[:, 1, :, 1]).flatten(0, 1)


def fold(modulation, inverse_std):
    """gamma and beta [M,2K] -> scale and shift [M,K] of what has been centred only."""
    gamma, beta = modulation.to(inverse_std.dtype).chunk(2, 1)
    return (gamma + 1) * inverse_std, beta


def affine(grid, centred, scale, shift, leak, out):
    """leaky_relu(centred * scale + shift): centred [p,K], all else [P,K]."""
    torch.addcmul(grid.split(shift), grid.beside(centred), grid.split(scale), out=grid.split(out))
    if leak != 1:
        F.leaky_relu_(out, leak)


def before_leak(gradient, output, leak, dtype):
    """Gradient of what went into the leaky ReLU, whose output has the signs of its input."""
    if leak != 1:
        gradient = torch.ops.aten.leaky_relu_backward(gradient, output, leak, True)
    return gradient.to(dtype)


def modulation_gradient(grid, g, normalised, out):
    """g [P,K], normalised [p,K] -> out [P,2K], the gradients of gamma and beta."""
    channels = g.shape[1]
    out[:, channels:] = g
    torch.mul(grid.split(g), grid.beside(normalised), out=grid.split(out[:, :channels]))


class InputGradient:
    """Gradient of x [N,K,h,w], put together from chunks."""

    def __init__(self, x, grid, mean, inverse_std):
        self.pixels, self.grid, self.mean, self.inverse_std = pixel_rows(x), grid, mean, inverse_std
        self.found, self.totals = torch.empty_like(self.pixels), mean.new_zeros(2, x.shape[1])

    def normalised(self, here):
        """BN(x) at some of the pixels, [p,K]."""
        return (self.pixels[here] - self.mean) * self.inverse_std

    def put(self, here, gradient, normalised):
        """gradient [p,K]: with mean and variance as constants."""
        self.found[here] = gradient
        self.totals += torch.stack([gradient.sum(0), (gradient * normalised).sum(0)])

    def finished(self, own_moments: bool):
        """[N,K,h,w], with what flows through the moments if they are those of x."""
        if own_moments:
            if world_size() > 1:
                total(self.totals)
            self.totals /= len(self.pixels) * world_size()
            through_mean, through_std = self.totals[0], self.totals[1] * self.inverse_std
            for here, _ in self.grid.chunks():
                self.found[here] -= torch.addcmul(through_mean, self.pixels[here] - self.mean, through_std)
        return maps(self.found, self.grid.n, self.grid.height, self.grid.width)
