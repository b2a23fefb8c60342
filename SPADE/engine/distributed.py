"""Several processes, started by torchrun. With one process every function here returns at once.

No wrappers around networks: parameters are broadcast once, gradients are averaged as one flat buffer for each step.
"""

import os

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable


def start(device: torch.device) -> torch.device:
    """Joins the group that torchrun's environment describes; returns this process's device."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def broadcast(*networks):
    """Parameters and buffers of process 0 to all."""
    if world_size() > 1:
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.data, 0)


def average_gradients(parameters):
    """Replaces each gradient by its mean over the processes, in one message."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        g.copy_(mean.view_as(g))


def batch_norm(x, running_mean, running_var, training: bool, momentum: float = 0.1, eps: float = 1e-5):
    """Batch norm without affine map of x [N,K,h,w], with the statistics of all processes' batches together.

    Differentiable: a gradient also flows through the statistics to the other processes' inputs.
    """
    if not training or world_size() == 1:
        return torch.nn.functional.batch_norm(x, running_mean, running_var, None, None, training, momentum, eps)
    count = x.numel() // x.shape[1] * world_size()
    mean = differentiable.all_reduce(x.mean((0, 2, 3))) / world_size()  # [K]
    centred = x - mean[:, None, None]
    variance = differentiable.all_reduce(centred.square().mean((0, 2, 3))) / world_size()  # [K]
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
    return centred * torch.rsqrt(variance + eps)[:, None, None]
