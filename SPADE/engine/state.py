"""Everything that training changes, to and from a checkpoint. Random states are no part: see `seed_step`."""

from dataclasses import dataclass, field

import torch

from SPADE.engine import checkpoint, ema


@dataclass
class TrainingState:
    networks: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averages: dict[str, torch.nn.Module] = field(default_factory=dict)  # of some of the networks, by the same names
    images_seen: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # loss term -> steps not made because of it

    def shown(self, name: str) -> torch.nn.Module:
        """What is evaluated and sampled from: the average, if there is one."""
        return self.averages.get(name, self.networks.get(name))

    def average(self, images: int, images_seen: int, half_life: float):
        """After a step on `images`, the last of `images_seen` that the averaged networks were trained on."""
        keep = ema.decay(images, images_seen, half_life)
        for name, average in self.averages.items():
            ema.update(average, self.networks[name], keep)

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
        self.skipped.update(content["skipped"])
