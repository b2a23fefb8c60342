"""What networks keep beside their weights, as those who keep, rewind or average networks must see it."""

import torch
from torch import nn


class Iterative(nn.Module):
    """Base of layers with estimates that each forward pass in training improves by an iteration, as spectral norm's."""

    estimates: tuple[str, ...]  # names of the buffers that hold them

    def iterate(self):
        """One iteration for the weights as they are."""
        raise NotImplementedError


def iterative_layers(network: nn.Module) -> list[Iterative]:
    return [layer for layer in network.modules() if isinstance(layer, Iterative)]


def split(network: nn.Module) -> tuple[list, list]:
    """The network's floating-point buffers: (statistics and constants, estimates of its iterative layers)."""
    estimates = [getattr(layer, name) for layer in iterative_layers(network) for name in layer.estimates]
    known = {id(buffer) for buffer in estimates}
    others = [b for b in network.buffers() if b.is_floating_point() and id(b) not in known]
    return others, estimates


class Buffers:
    """All buffers of some networks as one tensor, so that they are kept and put back by one operation."""

    def __init__(self, networks):
        networks = list(networks)
        pairs = [split(network) for network in networks]
        others, estimates = ([buffer for pair in pairs for buffer in pair[kind]] for kind in (0, 1))
        self.estimates_from = sum(buffer.numel() for buffer in others)
        buffers = others + estimates
        device = next(parameter.device for network in networks for parameter in network.parameters())
        self.all = torch.cat([buffer.flatten() for buffer in [*buffers, torch.empty(0, device=device)]])
        for buffer, view in zip(buffers, self.all.split([b.numel() for b in buffers]), strict=True):
            buffer.set_(view.view_as(buffer))
        self.good = self.all.clone()  # as the last good descent left them

    def rewind_estimates(self):
        """Has them as the last good descent left them: one iteration for each step, not for each part of its batch."""
        self.all[self.estimates_from :] = self.good[self.estimates_from :]

    def keep_unless(self, bad):
        """bad: bool [], on the device. Forward passes have written buffers; after a bad one they are put back."""
        self.good = torch.where(bad, self.good, self.all)
        self.all.copy_(self.good)
