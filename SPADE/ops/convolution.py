"""F.conv2d where it pays to go beyond it: by Winograd's filtering, and where an input gradient is differentiated again.

PyTorch finds the weight's gradient of an input gradient by a convolution whose kernel is as large as the map, a third
as fast on a CPU as the product that it is (Karras et al., NeurIPS 2021, replace it in their code, too). Here each
gradient has a node of its own, so that asking for the input's leaves the weight's out, twice over.
"""

import torch
import torch.nn.functional as F

from SPADE.ops import winograd


def conv2d(x, weight, bias=None, stride=(1, 1), padding=(0, 0), twice: bool = False):
    """F.conv2d with stride and padding as pairs. twice: the gradient of x, and only that, is differentiated again."""
    if torch.compiler.is_compiling():
        return F.conv2d(x, weight, bias, stride, padding)
    both = torch.is_grad_enabled() and x.requires_grad and weight.requires_grad
    # What is differentiated twice, the gradient penalty, is computed outside of autocast.
    if twice and both and not torch.is_autocast_enabled(x.device.type):
        y = ThroughInput.apply(x, weight, stride, padding)
        return y.add_(ThroughWeight.apply(weight, bias, x.detach(), y.shape, stride, padding))
    if winograd.suits(x, weight, stride, padding):
        return Winograd.apply(x, weight, bias)
    return F.conv2d(x, weight, bias, stride, padding)


class Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return winograd.convolution(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        of_x = winograd.input_gradient(gradient, weight) if ctx.needs_input_grad[0] else None
        of_weight = winograd.weight_gradient(gradient, x) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None


def convolution(x, weight, stride, padding):
    if winograd.suits(x, weight, stride, padding):
        return winograd.convolution(x, weight)
    return F.conv2d(x, weight, None, stride, padding)


def input_gradient(gradient, x, weight, stride, padding):
    """x is there for its shape."""
    if winograd.suits(gradient, weight, stride, padding):
        return winograd.input_gradient(gradient, weight)
    return gradients(gradient, x, weight, stride, padding, [True, False, False])[0]


def weight_gradient(gradient, x, weight, stride, padding):
    """weight is there for its shape."""
    if winograd.suits(x, weight, stride, padding):
        return winograd.weight_gradient(gradient, x)
    return gradients(gradient, x, weight, stride, padding, [False, True, False])[1]


def gradients(gradient, x, weight, stride, padding, mask):
    """Gradients of the input, the weight and the bias, of those that the mask names."""
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], stride, padding, [1, 1], False, [0, 0], 1, mask
    )


class ThroughInput(torch.autograd.Function):
    """The convolution without its bias, for whoever asks for the gradient of x."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(weight, x)
        ctx.geometry = stride, padding
        return convolution(x, weight, stride, padding)

    @staticmethod
    def backward(ctx, gradient):
        weight, x = ctx.saved_tensors
        return InputGradient.apply(gradient, weight, x.detach(), *ctx.geometry), None, None, None


class InputGradient(torch.autograd.Function):
    """Linear in the output's gradient and in the weight."""

    @staticmethod
    def forward(ctx, gradient, weight, x, stride, padding):
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = stride, padding
        return input_gradient(gradient, x, weight, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, twice):
        gradient, weight = ctx.saved_tensors
        of_gradient = convolution(twice, weight, *ctx.geometry)
        return of_gradient, weight_gradient(gradient, twice, weight, *ctx.geometry), None, None, None


class ThroughWeight(torch.autograd.Function):
    """The bias at every pixel, for whoever asks for the gradients of weight and bias."""

    @staticmethod
    def forward(ctx, weight, bias, x, shape, stride, padding):
        ctx.save_for_backward(weight, x)
        ctx.geometry = stride, padding
        return bias.detach().view(-1, 1, 1).expand(shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        weight, x = ctx.saved_tensors
        return weight_gradient(gradient, x, weight, *ctx.geometry), gradient.sum((0, 2, 3)), None, None, None, None


# --- Nearest upsampling by 2 and the 3x3 convolution after it, as four 2x2 convolutions before it ---
#
# Of the nine pixels that the convolution reads, those that upsampling has made from one input pixel share that pixel's
# value: their weights can be added up first. What remains are 2x2 of them, other ones for each of the four output
# pixels that belong to an input pixel (Shi et al., CVPR 2016, is the general form): 4 multiply-adds instead of 9,
# exactly.

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
    if torch.compiler.is_compiling():
        pixels = torch.stack(parts).unflatten(0, (2, 2))  # [2,2,N,out,h,w]
        return pixels.permute(2, 3, 4, 0, 5, 1).reshape(n, -1, 2 * h, 2 * w)
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
