"""Everything that training changes, to and from a checkpoint. Random states are no part: see `seed_step`."""

from dataclasses import dataclass, field

import torch

from SPADE.engine import checkpoint


@dataclass
class TrainingState:
    networks: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    images_seen: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # loss term -> steps not made because of it

    def record(self, config, data: dict) -> dict:
        """The content of a checkpoint."""
        return {
            "config": dict(vars(config)),
            "data": data,
            "images_seen": self.images_seen,
            "networks": {name: checkpoint.record(network) for name, network in self.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "skipped": dict(self.skipped),
        }

    def restore(self, content: dict):
        """Inverse of `record`, in place."""
        for name, network in self.networks.items():
            network.load_state_dict(content["networks"][name]["state"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
        self.images_seen = content["images_seen"]
        self.skipped.update(content["skipped"])
