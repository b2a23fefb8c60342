"""Batch norm, its modulation and the leaky ReLU behind it as one operation, forward and backward.

One by one they write five maps of the image's size and keep four for the backward pass; this writes one, and keeps that
one and its input. A chunk of pixels goes through all of it while it is in the cache. Nearest upsampling by 2 before
that is part of it, so that the four equal pixels are read and centred once and their gradients summed at once.
Maps in half precision are read and written as such; whatever happens to a chunk happens in the moments' float32.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from SPADE.engine.distributed import total, world_size
from SPADE.neighbourhoods import chunk_pixels

EPS, MOMENTUM = 1e-5, 0.1


@torch.no_grad()
def batch_moments(x):
    """Mean and biased variance [K] of x [N,K,h,w] over all processes, float32 for half precision.

    The gradient through them is left to Affine.
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
def track(norm, mean, variance, count: int):
    """Moves the averages of a BatchNorm towards the moments of `count` numbers in each process."""
    count *= world_size()
    norm.running_mean.lerp_(mean, MOMENTUM)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), MOMENTUM)


def pixel_rows(x):
    """[N,K,h,w] -> [N*h*w,K]; a view if x is channels last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous().flatten(0, 2)


def fold(modulation, inverse_std):
    """gamma and beta [M,2K] -> scale and shift [M,K] of what has been centred only."""
    gamma, beta = modulation.to(inverse_std.dtype).chunk(2, 1)
    return (gamma + 1) * inverse_std, beta


@dataclass(frozen=True)
class Grid:
    """Input pixels [p,K] and the output's, [P,K]: as many, or `copies` in each direction for each of them."""

    copies: int
    width: int  # of the input

    def chunks(self, pixels):
        """Input pixels [p,K] -> (slice of them, slice of the output's) for each chunk of whole rows."""
        size = chunk_pixels(self.copies * self.width, pixels.device)
        total = len(pixels) * self.copies**2
        for start in range(0, total, size):
            there = slice(start, min(start + size, total))
            yield slice(there.start // self.copies**2, there.stop // self.copies**2), there

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


class Affine(torch.autograd.Function):
    """leaky_relu(BN(up(x)) * (1 + gamma) + beta), [N,K,h,w] -> [N,K,h,w] or [N,K,2h,2w].

    modulation: gamma and beta, a row [2K] for each output pixel, or for each of the neighbourhoods if these are given.
    own_moments: mean and variance are those of x, so that the gradient flows through them, too.
    """

    @staticmethod
    def forward(ctx, x, modulation, mean, variance, neighbourhoods, upsample, leak, own_moments):
        n, channels, height, width = x.shape
        grid = Grid(2 if upsample else 1, width)
        pixels, inverse_std = pixel_rows(x), torch.rsqrt(variance + EPS)
        output = x.new_empty(len(pixels) * grid.copies**2, channels)
        if neighbourhoods is not None:
            scales, shifts = (part.contiguous() for part in fold(modulation, inverse_std))  # [U,K]

        for here, there in grid.chunks(pixels):
            if neighbourhoods is None:
                scale, shift = fold(modulation[there], inverse_std)
            else:
                index = neighbourhoods.index[there]
                scale, shift = scales.index_select(0, index), shifts.index_select(0, index)
            centred = grid.beside(pixels[here] - mean)
            torch.addcmul(grid.split(shift), centred, grid.split(scale), out=grid.split(output[there]))
            if leak != 1:
                F.leaky_relu_(output[there], leak)

        ctx.grid, ctx.neighbourhoods, ctx.leak, ctx.own_moments = grid, neighbourhoods, leak, own_moments
        output = output.view(n, height * grid.copies, width * grid.copies, channels).permute(0, 3, 1, 2)
        ctx.save_for_backward(x, modulation if neighbourhoods is None else scales, mean, inverse_std, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, modulation, mean, inverse_std, output = ctx.saved_tensors
        grid, neighbourhoods = ctx.grid, ctx.neighbourhoods
        pixels, output, gradient = pixel_rows(x), pixel_rows(output), pixel_rows(gradient)
        channels = x.shape[1]
        of_x, totals = torch.empty_like(pixels), mean.new_zeros(2, channels)
        if neighbourhoods is None:
            of_modulation = torch.empty_like(modulation)
        else:
            bags, bags_of_neighbourhood = neighbourhoods.bags  # in chunks, since pairs are made in chunks
            of_modulation = modulation.new_empty(len(bags_of_neighbourhood.rows), 2 * channels)

        for i, (here, there) in enumerate(grid.chunks(pixels)):
            g = gradient[there]
            if ctx.leak != 1:
                g = torch.ops.aten.leaky_relu_backward(g, output[there], ctx.leak, True)
            g, normalised = g.to(mean.dtype), (pixels[here] - mean) * inverse_std
            if neighbourhoods is None:
                scale, pairs = fold(modulation[there], inverse_std)[0], of_modulation[there]
            else:
                scale = modulation.index_select(0, neighbourhoods.index[there])
                pairs = modulation.new_empty(len(g), 2 * channels)
            pairs[:, channels:] = g
            torch.mul(grid.split(g), grid.beside(normalised), out=grid.split(pairs[:, :channels]))
            if neighbourhoods is not None:
                first, last, rows = bags[i]
                of_modulation[first:last] = rows.sum(pairs)
            of_x[here] = merged = grid.merge(g * scale)
            totals += torch.stack([merged.sum(0), (merged * normalised).sum(0)])

        if neighbourhoods is not None:
            of_modulation = bags_of_neighbourhood.sum(of_modulation)  # [U,2K]
        if ctx.own_moments:
            if world_size() > 1:
                total(totals)
            totals /= len(pixels) * world_size()
            for here, _ in grid.chunks(pixels):
                of_x[here] -= torch.addcmul(totals[0], pixels[here] - mean, totals[1] * inverse_std)
        n, _, height, width = x.shape
        of_x = of_x.view(n, height, width, channels).permute(0, 3, 1, 2)
        return of_x, of_modulation, None, None, None, None, None, None
