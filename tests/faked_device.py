"""A device that is not there: its tensors have a shape, a type and a place, and no numbers.

What asks for a number of theirs, or for a size that depends on one, raises inside `faked`; inside `Watching` so does an
operation on tensors of two devices, and a copy from one device to another that the host would wait for. PyTorch sees a
back end written in Python, which `install` registers for the whole process, before its first backward pass: it is for
processes of their own.
"""

import contextlib
from types import SimpleNamespace
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
AUTOCAST = "AutocastPrivateUse1"
# What torch.autocast does on CUDA, as far as such operations occur here.
IN_HALF = [
    aten.conv2d,
    aten.convolution,
    aten.linear,
    aten.matmul,
    aten.mm,
    aten.mv,
    aten.bmm,
    aten.baddbmm,
    aten.addmm,
]
IN_FULL = [aten.exp, aten.log, aten.rsqrt, aten.softplus, aten.l1_loss, aten.mse_loss, aten.nll_loss, aten.nll_loss2d]
IN_FULL += [aten.cdist, aten.pow.Tensor_Scalar, aten.softmax.int, aten.log_softmax.int, aten.linalg_vector_norm]
IN_FULL += [aten.sum, aten.sum.dim_IntList, aten.norm.ScalarOpt_dim]
libraries = []  # as long as they live, so do the kernels that are registered below


def library(namespace: str, kind: str = "IMPL", key: str = "") -> torch.library.Library:
    libraries.append(torch.library.Library(namespace, kind, key))
    return libraries[-1]


def install(name: str = "faked") -> torch.device:
    """The device, which from then on the process has one of."""
    module = SimpleNamespace(
        is_available=lambda: False,  # else constants are computed there
        is_initialized=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        manual_seed_all=lambda seed: None,
        _is_in_bad_fork=lambda: False,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
    )
    _setup_privateuseone_for_python_backend(name, module)
    library("aten", key="Meta").impl("batch_norm_update_stats", batch_norm_update_stats)  # PyTorch has none
    casts = library("aten", key=AUTOCAST)
    for operations, dtype in ((IN_HALF, torch.bfloat16), (IN_FULL, torch.float32)):
        for operation in operations:
            operation = getattr(operation, "default", operation)
            casts.impl(operation, casting(operation, dtype))
    library("_", key=AUTOCAST).fallback(torch.library.fallthrough_kernel)  # all others: as they are
    return torch.device(name, 0)


def batch_norm_update_stats(x, running_mean, running_var, momentum):
    """The mean and the biased variance of x [N,K,...], both [K], of the running ones' type."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(x.shape[1], dtype=dtype), x.new_empty(x.shape[1], dtype=dtype)


def casting(operation, dtype):
    """The operation on what is made of this type before, as autocast does it."""
    without = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, AUTOCAST))

    def cast(value):
        half_or_full = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float32)
        return value.to(dtype) if half_or_full else value

    def kernel(*arguments, **more):
        with torch._C._ExcludeDispatchKeyGuard(without):
            return operation(*tree_map(cast, arguments), **tree_map(cast, more))

    return kernel


class Watching(TorchDispatchMode):
    """Refuses operations of tensors on several devices, and (unless `waiting`) copies between them that are not queued.

    Queued are those that are `non_blocking`, as of `to_device`. A CPU tensor without dimensions may go with any.
    """

    def __init__(self, waiting: bool = False):
        super().__init__()
        self.waiting = waiting

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if operation in (aten._to_copy.default, aten.copy_.default):
            to, source = arguments[0], arguments[-1 if operation is aten._to_copy.default else 1]
            after = torch.device(keywords.get("device") or to.device)
            queued = keywords.get("non_blocking", False) or len(arguments) > 2 and arguments[2]
            if source.device.type != after.type and not queued and not self.waiting:
                raise RuntimeError(f"a copy from {source.device} to {after} that the host waits for")
        else:
            places = {x.device for x in tensors_in(arguments) if x.dim() or x.device.type != "cpu"}
            if len(places) > 1:
                raise RuntimeError(f"{operation} of tensors on {' and '.join(map(str, places))}")
        return operation(*arguments, **keywords)


def tensors_in(arguments):
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from tensors_in(argument)


def moved(module, move, recurse: bool = True):
    """Stands in place of `Module._apply`, which swaps the contents of tensors, and these have none."""
    with torch.no_grad():
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    part._parameters[name] = torch.nn.Parameter(move(parameter), parameter.requires_grad)
            for name, buffer in part._buffers.items():
                part._buffers[name] = buffer if buffer is None else move(buffer)
    return module


@contextlib.contextmanager
def faked():
    """Makes tensors that hold no numbers; what comes from outside becomes so."""
    with FakeTensorMode(allow_non_fake_inputs=True), mock.patch.object(torch.nn.Module, "_apply", moved):
        yield
