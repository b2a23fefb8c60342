"""The state of a training. Four sections: what a checkpoint saves and restores, moving averages of weights, buffers,
warm starts from other models.

Random states are not part of it: see `seed_step`. The averages are exponential moving ones, and are what is evaluated
and sampled from (Yazıcı et al., *The Unusual Effectiveness of Averaging in GAN Training*, ICLR 2019).
"""

import copy
import re
from collections import defaultdict
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path

import torch
from torch import nn

from datasets.errors import UserError
from SPADE.engine import checkpoint

# --- What a checkpoint saves and restores ---


@dataclass
class TrainingState:
    """Networks, optimisers and averages of a training, and how far it has come."""

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
        """Moves the averages towards their networks, after a step on the last `images` of the `images_seen`."""
        for name, average in self.averages.items():
            keep = average_decay(images, images_seen + self.inherited.get(name, 0), half_life)
            update_average(average, self.networks[name], keep)

    def inherit(self, stages: dict[str, tuple[str, dict]]) -> list[str]:
        """Takes over what earlier trainings saved of these networks beside their last weights: averages, with their
        count of images, and optimisers' moments. Returns the names of what was missing and so begins anew.

        stages: network -> (its name in that training, the content of that training's checkpoint).
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
        self.inherited.update(content.get("inherited", {}))  # older checkpoints have no such entry
        self.skipped.update(content["skipped"])


# --- Moving averages of weights ---

RAMP_UP = 0.05  # the half-life is at most this share of the images seen, so that the start is soon forgotten


def averaged_copy(network: torch.nn.Module) -> torch.nn.Module:
    """A copy to be averaged into: in evaluation mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def average_decay(images: int, images_seen: int, half_life: float) -> float:
    """The weight that the old average keeps after a step on so many images: 0.5 ** (images / half-life)."""
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


# --- Buffers: which of them are averaged, iterated, or put back after a step that is not made ---


class Iterative(nn.Module):
    """Base of layers whose buffers hold estimates that each forward pass in training improves by an iteration.

    Spectral normalisation's singular vectors are such estimates.
    """

    estimates: tuple[str, ...]  # names of the buffers that hold them

    def iterate(self):
        """Improves the estimates by one iteration, for the current weights."""
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
    """All buffers of some networks as views of one tensor, so that one operation saves or restores all of them."""

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
        self.good = self.all.clone()  # the values that the last good descent left

    def rewind_estimates(self):
        """Puts the estimates back to what the last good descent left, before another part of the same batch.

        A batch in parts then makes one iteration, as a whole one does, not one for each part.
        """
        self.all[self.estimates_from :] = self.good[self.estimates_from :]

    def keep_unless(self, bad):
        """Keeps what a descent's forward passes wrote to the buffers, or puts the last good values back if it was bad.

        bad: bool [], on the device.
        """
        self.good = torch.where(bad, self.good, self.all)
        self.all.copy_(self.good)


# --- Warm start: a training begins with what fits of a model that was trained on other data, classes or sizes ---
#
# A layer is taken whole where its tensors have the shapes of the new one's. Layers that take in classes or score them
# are taken class by class, matched by name. Classes that the trained model does not know begin anew, and so do layers
# that do not fit.


@dataclass(frozen=True)
class Source:
    """A trained model that another training begins from."""

    path: str
    images_seen: int
    networks: dict  # name -> entry, as `checkpoint.record` gives it
    classes: list[str]  # names, by train id


def read_source(path: str, stage: str) -> Source:
    """Reads a checkpoint of the same stage. Raises UserError."""
    content = checkpoint.load(Path(path), stage)
    return Source(path, content.get("images_seen", 0), content["networks"], class_names(content["data"]))


def class_names(data: dict) -> list[str]:
    """Names by train id, of a checkpoint's record of its data."""
    return [entry["name"] for entry in data["label_space"]["classes"]]


def matched(here: list[str], there: list[str]) -> list[tuple[int, int]]:
    """(train id here, train id there) of the classes that both tables have."""
    return [(i, there.index(name)) for i, name in enumerate(here) if name in there]


def layers_of(state: dict) -> dict[str, dict]:
    """State dict -> layer -> name within it -> tensor."""
    found = defaultdict(dict)
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        found[layer][leaf] = tensor
    return found


def pairs_along(axis, mine, theirs, here: list[str], there: list[str]):
    """Indices (mine, theirs) along the axis that counts classes: matched classes, then what follows the classes."""
    rest = mine.shape[axis] - len(here), theirs.shape[axis] - len(there)
    if rest[0] != rest[1] or rest[0] < 0:
        return None
    pairs = matched(here, there) + [(len(here) + i, len(there) + i) for i in range(rest[0])]
    return [torch.tensor(indices, dtype=torch.long) for indices in zip(*pairs, strict=True)] if pairs else None


def same_but_for(axis, mine, theirs) -> bool:
    a, b = list(mine.shape), list(theirs.shape)
    if axis is not None and len(a) == len(b) > axis:
        a[axis] = b[axis] = 0
    return a == b


def take_layer(mine: dict, theirs: dict, axis: int | None, here: list[str], there: list[str]) -> str | None:
    """Copies the tensors of one layer. Returns None, or the reason why nothing was copied.

    axis: the one that counts classes; None where none does.
    """
    copies = []
    for leaf, tensor in mine.items():
        other, counts_classes = theirs.get(leaf), False
        if axis is not None:
            if leaf not in ("weight", "bias") and here != there:
                continue  # spectral vectors of a weight that is put together anew: power iterations find others
            counts_classes = leaf in ("weight", "bias") and tensor.dim() > axis
        if other is None:
            return f"{leaf} is not there"
        if not same_but_for(axis if counts_classes else None, tensor, other):
            return f"{leaf} is {list(tensor.shape)} here, {list(other.shape)} there"
        pairs = pairs_along(axis, tensor, other, here, there) if counts_classes else None
        if counts_classes and pairs is None:
            return f"{leaf} has no class in common"
        copies.append((tensor, other, pairs))
    for tensor, other, pairs in copies:
        if pairs is None:
            tensor.copy_(other)
        else:
            taken = other.to(tensor).index_select(axis, pairs[1].to(tensor.device))
            tensor.index_copy_(axis, pairs[0].to(tensor.device), taken)
    return None


def group_of(layer: str) -> str:
    """The part of the network under which a layer is reported: ups.1.norm_0.shared -> ups.1, head.conv_0 -> head."""
    return re.match(r"[^.]*(\.\d+)?", layer)[0]


def differing_settings(network, there: dict) -> list[str]:
    """Describes the constructor arguments that differ, also those that no tensor's shape shows, such as strides.

    there: the other network's; older checkpoints lack arguments that came later, whose defaults say what was done.
    """
    if not there.keys() <= network.arguments.keys():
        return ["a network of another kind there"]
    defaults = {name: argument.default for name, argument in signature(type(network)).parameters.items()}
    pairs = {key: (value, there.get(key, defaults[key])) for key, value in network.arguments.items()}
    return [f"{key} {mine} here, {theirs} there" for key, (mine, theirs) in pairs.items() if mine != theirs]


@torch.no_grad()
def take_network(name: str, network, entry: dict, pairing, class_axes: dict[str, int]) -> tuple[int, list[str]]:
    """Copies what fits into one network; returns the number of layers taken, and a report.

    entry: the trained network's record; pairing: class names of the new model, and of the trained one.
    """
    theirs, taken, faults = layers_of(entry["state"]), defaultdict(int), defaultdict(list)
    for layer, tensors in layers_of(network.state_dict()).items():
        axis = next((axis for pattern, axis in class_axes.items() if re.fullmatch(pattern, f"{name}.{layer}")), None)
        fault = take_layer(tensors, theirs.get(layer, {}), axis, *pairing)
        if fault is None:
            taken[group_of(layer)] += 1
        else:
            faults[group_of(layer)].append(f"{layer}: {fault}")
    count = sum(taken.values())
    of_all = count + sum(map(len, faults.values()))
    summary = [
        f"{name}: {count} of {of_all} layers taken",
        *differing_settings(network, entry["arguments"]),
    ]
    lines = ["; ".join(summary)]
    for group, found in faults.items():
        lines.append(f"{name}.{group}: {len(found)} of {len(found) + taken[group]} layers begin anew ({found[0]})")
    return count, lines


def take(state: TrainingState, source: Source, here: list[str], class_axes: dict[str, int]) -> list[str]:
    """Copies what fits into the networks, and then the networks into their averages; returns a report, line by line.

    The last weights are taken, not the averages, since the critic was trained against the last generator. Optimisers
    begin anew. here: names of the new model's classes; class_axes: regular expression of NETWORK.LAYER -> the axis of
    its tensors that counts classes. Raises UserError where nothing fits.
    """
    lines = [f"beginning from {source.path}, {source.images_seen} images seen"]
    if class_axes and here != source.classes:
        new = [name for name in here if name not in source.classes]
        lines.append(f"classes: {len(here) - len(new)} of {len(here)} are there by name"
                     + (f", new are {', '.join(new)}" if new else ""))  # fmt: skip
    taken = 0
    for name, network in state.networks.items():
        if name not in source.networks:
            lines.append(f"{name} begins anew: there is none")
            continue
        count, report = take_network(name, network, source.networks[name], (here, source.classes), class_axes)
        taken += count
        lines += report
    if not taken:
        raise UserError(f"nothing in {source.path} fits the networks asked for; pass that model's widths, or no --from")
    for name, average in state.averages.items():
        average.load_state_dict(state.networks[name].state_dict())
    return lines
