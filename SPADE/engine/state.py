"""Everything that training changes, to and from a checkpoint; and the buffers that networks keep beside their weights.

Random states are no part of it: see `seed_step`. Averages of weights are exponential moving ones: what is evaluated and
sampled from (Yazıcı et al., *The Unusual Effectiveness of Averaging in GAN Training*, ICLR 2019).
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import nn

from SPADE.engine import checkpoint

RAMP_UP = 0.05  # the half-life is at most this share of the images seen, so that the start is soon forgotten


@dataclass
class TrainingState:
    networks: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averages: dict[str, torch.nn.Module] = field(default_factory=dict)  # of some of the networks, by the same names
    images_seen: int = 0
    inherited: dict[str, int] = field(default_factory=dict)  # average -> images it had seen before this training
    skipped: dict[str, int] = field(default_factory=dict)  # loss term -> steps not made because of it

    def shown(self, name: str) -> torch.nn.Module:
        """The network that is evaluated and sampled from: the average, if there is one."""
        return self.averages.get(name, self.networks.get(name))

    def average(self, images: int, images_seen: int, half_life: float):
        """Has the averages follow a step on `images`, the last of `images_seen` their networks were trained on."""
        for name, average in self.averages.items():
            keep = average_decay(images, images_seen + self.inherited.get(name, 0), half_life)
            update_average(average, self.networks[name], keep)

    def inherit(self, stages: dict[str, tuple[str, dict]]) -> list[str]:
        """Takes over what other trainings left of these networks beside their weights: averages with their count of
        images, and moments. Returns the names of what was not there and begins anew.

        stages: network -> (its name there, content of that training's checkpoint).
        """
        anew = []
        for name, (there, content) in stages.items():
            record, optimizers = content["networks"][there], content.get("optimizers", {})
            if name in self.averages and "average" in record:
                self.averages[name].load_state_dict(record["average"])
                self.inherited[name] = content["images_seen"]
            elif name in self.averages:
                anew.append(f"average of {name}")
            if name in self.optimizers and there in optimizers:
                self.optimizers[name].load_state_dict(optimizers[there])
            elif name in self.optimizers:
                anew.append(f"moments of {name}")
        return anew

    def record(self, config, data: dict) -> dict:
        """The content of a checkpoint."""
        return {
            "config": dict(vars(config)),
            "data": data,
            "images_seen": self.images_seen,
            "networks": {
                name: checkpoint.record(network, self.averages.get(name)) for name, network in self.networks.items()
            },
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "inherited": dict(self.inherited),
            "skipped": dict(self.skipped),
        }

    def restore(self, content: dict):
        """Inverse of `record`, in place."""
        for name, network in self.networks.items():
            network.load_state_dict(content["networks"][name]["state"])
        for name, average in self.averages.items():
            average.load_state_dict(content["networks"][name]["average"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
        self.images_seen = content["images_seen"]
        self.inherited.update(content.get("inherited", {}))  # checkpoints of before have none
        self.skipped.update(content["skipped"])


def averaged_copy(network: torch.nn.Module) -> torch.nn.Module:
    """A copy to be averaged into: in evaluation mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def average_decay(images: int, images_seen: int, half_life: float) -> float:
    """Weight of the old average after a step on `images`: 1/2 to the share of the half-life that they are."""
    half_life = min(half_life, RAMP_UP * images_seen)
    return 0.5 ** (images / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update_average(average: torch.nn.Module, network: torch.nn.Module, keep: float):
    """average = keep * average + (1 - keep) * network.

    Batch norm's running statistics are averaged as the weights are: a statistic is to first order linear in the
    weights, so the average network's is the average of the statistics, while the last network's would be off by the
    distance between the two. Estimates can't be averaged (spectral vectors are unit vectors, of any sign): the
    average's own follow its weights by one iteration for each update, as in training.
    """
    pairs = [*zip(average.parameters(), network.parameters(), strict=True)]
    pairs += [*zip(split_buffers(average)[0], split_buffers(network)[0], strict=True)]
    torch._foreach_lerp_([mine for mine, _ in pairs], [theirs for _, theirs in pairs], 1 - keep)
    for layer in iterative_layers(average):
        layer.iterate()


# --- Buffers, as those who keep, rewind or average networks must see them ---


class Iterative(nn.Module):
    """Base of layers with estimates that each forward pass in training improves by an iteration, as spectral norm's."""

    estimates: tuple[str, ...]  # names of the buffers that hold them

    def iterate(self):
        """One iteration for the weights as they are."""
        raise NotImplementedError


def iterative_layers(network: nn.Module) -> list[Iterative]:
    return [layer for layer in network.modules() if isinstance(layer, Iterative)]


def split_buffers(network: nn.Module) -> tuple[list, list]:
    """The network's floating-point buffers: (statistics and constants, estimates of its iterative layers)."""
    estimates = [getattr(layer, name) for layer in iterative_layers(network) for name in layer.estimates]
    known = {id(buffer) for buffer in estimates}
    others = [b for b in network.buffers() if b.is_floating_point() and id(b) not in known]
    return others, estimates


class Buffers:
    """All buffers of some networks as one tensor, so that they are kept and put back by one operation."""

    def __init__(self, networks):
        networks = list(networks)
        pairs = [split_buffers(network) for network in networks]
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
