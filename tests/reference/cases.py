"""Reads the reference numbers in this folder: weights, inputs and expected outputs of the published system.

They were computed by the published code in float32 on a CPU; weights and inputs come from formulas (formula.py), so
the files hold little more than outputs. An output passes when its largest error, over its largest value, is within
the tolerance that stands beside it.
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch

from tests.reference import formula

FOLDER = Path(__file__).parent


@functools.cache
def manifest() -> dict:
    return json.loads((FOLDER / "manifest.json").read_text())


@functools.cache
def arrays(name: str):
    return np.load(FOLDER / name)


class Case:
    """One case of the manifest. `check` its outputs one by one; `finish` sees that none was forgotten."""

    def __init__(self, case_id: str):
        self.entry = next(entry for entry in manifest()["cases"] if entry["id"] == case_id)
        self.config = self.entry["config"]
        self.left = set(self.entry["outputs"])

    def input(self, name: str) -> torch.Tensor:
        return torch.from_numpy(formula.make_input(self.entry["inputs"][name], arrays))

    def network(self, name: str) -> dict:
        """The manifest's entry of a network; "parameters" is how many trainable numbers it has."""
        return next(entry for entry in self.entry["networks"] if entry["name"] == name)

    def spec(self, network: str) -> list:
        """[published name, shape, dtype] of each tensor of its state."""
        return manifest()["state_specs"][self.network(network)["state"]]

    def released_state(self, network: str) -> dict[str, torch.Tensor]:
        """State dict of a network under the published names."""
        state = formula.fill_state(self.spec(network), self.network(network)["salt"])
        return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}

    def outputs(self, prefix: str) -> list[str]:
        """Names of the outputs that begin so, without the prefix."""
        return [name[len(prefix) :] for name in self.entry["outputs"] if name.startswith(prefix)]

    def output(self, name: str):
        """The expected number or array."""
        output = self.entry["outputs"][name]
        return output["value"] if "value" in output else arrays(output["npz"])[output["key"]]

    def check(self, name: str, value):
        wanted, tolerance = self.output(name), self.entry["outputs"][name]["tol"]
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        assert np.shape(value) == np.shape(wanted), f"{name} has shape {np.shape(value)}, not {np.shape(wanted)}"
        error = formula.error(value, wanted)
        assert error <= tolerance, f"{name} is off by {error:.2e}, allowed {tolerance:.0e}"
        self.left.discard(name)

    def finish(self):
        assert not self.left, f"not compared: {sorted(self.left)}"


def by_released_name(tensors: dict, names: dict[str, tuple[str, ...]]) -> dict[str, torch.Tensor]:
    """Weights, gradients or buffers of ours under the published names; `names` as in SBGAN/released."""
    result = {}
    for key, tensor in tensors.items():
        parts = names[key]
        result.update(zip(parts, tensor.chunk(len(parts)) if len(parts) > 1 else [tensor], strict=True))
    return result


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def norm(tensor: torch.Tensor) -> torch.Tensor:
    """L2 norm, summed in float64: float32 sums of millions of squares are off by more than the tolerances."""
    return tensor.double().norm()
