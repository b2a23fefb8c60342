"""Nearest upsampling by 2 and the 3x3 convolution after it, as four 2x2 convolutions before it.

Of the nine pixels that the convolution reads, those that upsampling has made from one input pixel share that pixel's
value: their weights can be added up first. What remains are 2x2 of them, other ones for each of the four output pixels
that belong to an input pixel (Shi et al., CVPR 2016, is the general form): 4 multiply-adds instead of 9, exactly.
"""

import torch
import torch.nn.functional as F

FEWEST_PIXELS = 256  # below, making the kernels costs more than they save (512 channels, float32, one CPU core)


def upsampled_conv3x3(x, weight, bias, plain: bool = False):
    """conv2d(upsample(x), weight, bias, padding=1): x [N,in,h,w], weight [out,in,3,3] -> [N,out,2h,2w]."""
    n, _, h, w = x.shape
    if plain or n * h * w < FEWEST_PIXELS:
        return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)
    parts = []
    for a, half in enumerate(added_up(weight, 2)):  # [out,in,2,3]
        for b, kernel in enumerate(added_up(half, 3)):  # [out,in,2,2]
            padded = F.pad(x, (1 - b, b, 1 - a, a))  # [N,in,h+1,w+1]
            parts.append(F.conv2d(padded, kernel, bias))  # [N,out,h,w]
    return Interleave.apply(*parts)


def added_up(weight, dim: int):
    """Weights along one of the directions: 3 of them -> the 2 of an even output pixel, the 2 of an odd one."""
    before, centre, after = weight.unbind(dim)
    even = torch.stack([before, centre + after], dim)  # reads the input pixel before its own, and its own
    odd = torch.stack([before + centre, after], dim)
    return even, odd


class Interleave(torch.autograd.Function):
    """Pixels of even row and even column, even and odd, odd and even, odd and odd, 4 x [N,K,h,w] -> [N,K,2h,2w].

    A single copy into channels last; stacking and reshaping would make two.
    """

    @staticmethod
    def forward(ctx, *parts):
        n, channels, h, w = parts[0].shape
        like = dict(dtype=parts[0].dtype, device=parts[0].device)
        output = torch.empty(n, channels, 2 * h, 2 * w, memory_format=torch.channels_last, **like)
        for i, part in enumerate(parts):
            output[:, :, i // 2 :: 2, i % 2 :: 2] = part
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return tuple(gradient[:, :, i // 2 :: 2, i % 2 :: 2] for i in range(4))
