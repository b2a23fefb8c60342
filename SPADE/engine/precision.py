"""Number formats of a training: float32 throughout, float32 with TF32 products, or bfloat16 products.

Whatever is chosen, weights, optimisers, averages, batch statistics, losses and the gradient penalty are float32.
"""

import torch

PRECISIONS = ("fp32", "tf32", "bf16")


def set_precision(name: str, device: torch.device):
    """For the whole process, since TF32 is a property of PyTorch's back ends. Says what the device cannot do."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    if name == "tf32" and device.type != "cuda":
        print(f"--precision tf32 is a format of GPUs: on this {device.type} all stays float32", flush=True)
    if name == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print("--precision bf16: this CPU has no instructions for it, so it will be slower than fp32", flush=True)


def autocast(name: str, device: torch.device) -> torch.autocast:
    """Context for the computation of losses, to be entered anew for each (it caches weights)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16")


def widened(x: torch.Tensor) -> torch.Tensor:
    """bfloat16 as float32; wider types as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
