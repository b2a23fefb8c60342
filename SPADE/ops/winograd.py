"""3x3 convolutions on a CPU with 16 multiplications for four output pixels instead of 36, exact but for rounding.

Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016,
section 4.1): Y = A' [(G g G') * (B' d B)] A, where d are tiles of 4x4 input pixels, two apart, and Y the 2x2 output
pixels of each. Over all tiles and channels the product in the middle is 16 matrix products. Transposed, it gives the
weight's gradient.
"""

import math

import torch

TILES = 256  # handled together: rows of the 16 matrices, few enough for the cache
# Where this is the faster form: with fewer channels the maps' transforms outweigh the products, with fewer pixels the
# weight's. On two cores with AVX-512 1.0 to 1.5 times as fast as F.conv2d, the weight's gradient 1.2 to 1.8 times.
FEWEST_CHANNELS, FEWEST_PIXELS = 192, 2048  # geometric mean of in and out; all images together


def suits(x, weight, stride, padding) -> bool:
    """Can F.conv2d(x, weight, None, stride, padding) and its gradients be had so, and faster?

    Only in float32 on a CPU: a GPU's library chooses by itself, and bfloat16 would round the sums before the product.
    Only channels last, where a pixel's channels are a row of a matrix. torch.compile sees an ordinary convolution.
    """
    if weight.shape[2:] != (3, 3) or (*stride, *padding) != (1, 1, 1, 1) or torch.compiler.is_compiling():
        return False
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    n, _, h, w = x.shape
    if h % 2 or w % 2 or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    return n * h * w >= FEWEST_PIXELS and weight.shape[0] * weight.shape[1] >= FEWEST_CHANNELS**2


def convolution(x, weight, bias=None):
    """conv2d(x, weight, bias, padding=1): x [N,in,H,W], weight [out,in,3,3] -> [N,out,H,W]."""
    return product(x, transformed(weight).transpose(1, 2), bias)


def input_gradient(gradient, weight):
    """Gradient of the convolution's x: gradient [N,out,H,W] of its output -> [N,in,H,W]."""
    return product(gradient, transformed(weight.flip(2, 3)))


def weight_gradient(gradient, x):
    """Gradient of the convolution's weight: gradient [N,out,H,W] of its output, x [N,in,H,W] -> [out,in,3,3]."""
    x, gradient, scratch = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), Scratch(x)
    total = x.new_zeros(16, gradient.shape[3], x.shape[3])
    columns = x.shape[2] // 2
    for images, first, last in chunks(x):
        d = surroundings(x, images, first, last, scratch)
        d = both_ways(input_tiles, d, last - first, columns, scratch, "input")  # [16,P,in]
        g = gradient[images, 2 * first : 2 * last]
        g = both_ways(output_tiles, g, last - first, columns, scratch, "gradient")  # [16,P,out]
        torch.baddbmm(total, g.transpose(1, 2), d, out=total)
    total = total.unflatten(0, (4, 4))  # [4,4,out,in]
    return taps(taps(total).transpose(0, 1)).permute(2, 3, 1, 0)


def product(x, kernels, bias=None):
    """x [N,in,H,W], kernels [16,in,out], the transformed ones -> [N,out,H,W], channels last."""
    n, _, h, w = x.shape
    output = torch.empty_like(x[:, :1].expand(n, kernels.shape[2], h, w), memory_format=torch.channels_last)
    x, rows, scratch = x.permute(0, 2, 3, 1), output.permute(0, 2, 3, 1), Scratch(x)
    for images, first, last in chunks(x):
        d = surroundings(x, images, first, last, scratch)
        d = both_ways(input_tiles, d, last - first, w // 2, scratch, "input")  # [16,P,in]
        m = torch.bmm(d, kernels, out=scratch("product", 16, d.shape[1], kernels.shape[2]))
        if bias is not None:
            m[5] += bias  # row 1, column 1: A' and A add it once to each of the four pixels
        here = rows[images, 2 * first : 2 * last].unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # [n,rows,2,cols,2,out]
        m = m.view(4, 4, len(here), last - first, w // 2, -1)
        half = scratch("half", 2, *m.shape[1:])
        output_pixels(m, half)
        for i in range(2):
            output_pixels(half[i], here[:, :, i].unbind(3))
    return output


class Scratch:
    """Memory that one chunk after the other uses: fresh pages would cost more than what is computed there."""

    def __init__(self, like):
        self.like, self.buffers = like, {}

    def __call__(self, name, *shape):
        size = math.prod(shape)
        if name not in self.buffers:  # the first chunk is the largest
            self.buffers[name] = self.like.new_empty(size)
        return self.buffers[name][:size].view(shape)


def chunks(x):
    """x [N,H,W,K] -> (slice of images, first row of tiles, last + 1): some rows of an image, or some whole images."""
    n, rows, columns = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
    band = min(max(TILES // columns, 1), rows)
    together = max(TILES // (rows * columns), 1)
    for i in range(0, n, together):
        for first in range(0, rows, band):
            yield slice(i, min(i + together, n)), first, min(first + band, rows)


def surroundings(x, images, first, last, scratch):
    """Pixels that the tiles of a chunk see, zeros outside of the image: [n, 2 rows + 2, W + 2, K]."""
    part = x[images]
    n, h, w, channels = part.shape
    strip = scratch("surroundings", n, 2 * (last - first) + 2, w + 2, channels).zero_()
    above, below = max(2 * first - 1, 0), min(2 * last + 1, h)
    strip[:, above - 2 * first + 1 : below - 2 * first + 1, 1:-1] = part[:, above:below]
    return strip


def both_ways(transform, x, rows, columns, scratch, name):
    """A transform along rows and along columns: x [n,...,...,K] -> [16,P,K] for P = n * rows * columns tiles."""
    n, _, w, channels = x.shape
    half = scratch(name + " half", 4, n, rows, w, channels)
    transform(x, half, 1)
    whole = scratch(name, 4, 4, n, rows, columns, channels)
    transform(half, whole.unbind(1), 3)
    return whole.view(16, n * rows * columns, channels)


def every_second(x, dim, first, count):
    return x[(slice(None),) * dim + (slice(first, first + 2 * count - 1, 2),)]


def input_tiles(x, out, dim):
    """B': of four neighbours, two apart, along a direction."""
    a, b, c, d = (every_second(x, dim, i, out[0].shape[dim]) for i in range(4))
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])


def output_tiles(x, out, dim):
    """A: of two neighbours; the transpose of `output_pixels`."""
    a, b = (every_second(x, dim, i, out[0].shape[dim]) for i in range(2))
    out[0].copy_(a)
    torch.add(a, b, out=out[1])
    torch.sub(a, b, out=out[2])
    torch.neg(b, out=out[3])


def output_pixels(m, out):
    """A': of four products, the two pixels."""
    torch.add(m[1], m[2], out=out[0]).add_(m[0])
    torch.sub(m[1], m[2], out=out[1]).sub_(m[3])


def transformed(weight):
    """[out,in,3,3] -> G g G', [16,out,in]."""

    def transform(weights):
        a, b, c = weights
        outer, b = (a + c) / 2, b / 2
        return torch.stack([a, outer + b, outer - b, c])

    return transform(transform(weight.permute(3, 2, 0, 1)).transpose(0, 1)).flatten(0, 1)


def taps(m):
    """G', the transpose of what `transformed` does along a direction: [4,...] -> [3,...]."""
    total, difference = (m[1] + m[2]) / 2, (m[1] - m[2]) / 2
    return torch.stack([m[0] + total, difference, total + m[3]])
