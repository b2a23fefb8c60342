"""Networks in evaluation mode for a while."""

import contextlib

import torch


@contextlib.contextmanager
def evaluating(*networks):
    """Evaluation mode without gradients inside; afterwards every submodule is in the mode that it had before."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
