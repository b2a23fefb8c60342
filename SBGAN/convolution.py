"""A convolution whose input gradient can be differentiated at the cost of convolutions, as a gradient penalty needs it.

PyTorch finds the weight's gradient of an input gradient by a convolution whose kernel is as large as the map, a third
as fast on a CPU as the product that it is (Karras et al., NeurIPS 2021, replace it in their code, too). Here each
gradient has a node of its own, so that asking for the input's leaves the weight's out, twice over.
"""

import torch
import torch.nn.functional as F


def conv2d(x, weight, bias, stride, padding):
    """F.conv2d with stride and padding as pairs; the gradient of x, and only that, can be differentiated once more."""
    differentiable = torch.is_grad_enabled() and x.requires_grad and weight.requires_grad
    if not differentiable or torch.is_autocast_enabled(x.device.type):  # the penalty is computed outside of autocast
        return F.conv2d(x, weight, bias, stride, padding)
    y = ThroughInput.apply(x, weight, stride, padding)
    return y.add_(ThroughWeight.apply(weight, bias, x.detach(), y.shape, stride, padding))


def gradients(gradient, x, weight, stride, padding, mask):
    """Of the input, the weight and the bias, those that the mask names."""
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], stride, padding, [1, 1], False, [0, 0], 1, mask
    )


class ThroughInput(torch.autograd.Function):
    """The convolution without its bias, for whoever asks for the gradient of x."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(weight)
        ctx.x, ctx.how = x.detach(), (stride, padding)
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        return InputGradient.apply(gradient, weight, ctx.x, *ctx.how), None, None, None


class InputGradient(torch.autograd.Function):
    """Linear in the output's gradient and in the weight; x is there for its shape."""

    @staticmethod
    def forward(ctx, gradient, weight, x, stride, padding):
        ctx.save_for_backward(gradient, weight)
        ctx.how = stride, padding
        return gradients(gradient, x, weight, stride, padding, [True, False, False])[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, twice):
        gradient, weight = ctx.saved_tensors
        of_gradient = F.conv2d(twice, weight, None, *ctx.how)
        of_weight = gradients(gradient, twice, weight, *ctx.how, [False, True, False])[1]
        return of_gradient, of_weight, None, None, None


class ThroughWeight(torch.autograd.Function):
    """The bias at every pixel, for whoever asks for the gradients of weight and bias."""

    @staticmethod
    def forward(ctx, weight, bias, x, shape, stride, padding):
        ctx.save_for_backward(weight, x)
        ctx.how = stride, padding
        return bias.detach().view(-1, 1, 1).expand(shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        weight, x = ctx.saved_tensors
        _, of_weight, of_bias = gradients(gradient, x, weight, *ctx.how, [False, True, True])
        return of_weight, of_bias, None, None, None, None
