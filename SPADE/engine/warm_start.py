"""Warm start: a new training begins with what fits of a trained model, of other data, other classes or other sizes.

A layer is taken whole where its tensors have the shapes of the new one's. Layers that see or give classes are taken
class by class, matched by name; classes that the trained model does not know begin anew, as do layers that do not fit.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from SPADE.engine import checkpoint
from SPADE.engine.state import TrainingState


@dataclass(frozen=True)
class Source:
    """A trained model that is begun from."""

    path: str
    images_seen: int
    networks: dict  # name -> entry, as `checkpoint.record` gives it
    classes: list[str]  # names, by train id


def read(path: str, stage: str) -> Source:
    """A checkpoint of the same stage. Raises UserError."""
    content = checkpoint.load(Path(path), stage)
    return Source(path, content.get("images_seen", 0), content["networks"], class_names(content["data"]))


def class_names(data: dict) -> list[str]:
    """Names by train id, of a checkpoint's record of its data."""
    return [entry["name"] for entry in data["label_space"]["classes"]]


def matched(here: list[str], there: list[str]) -> list[tuple[int, int]]:
    """(train id here, train id there) of the classes that both tables have."""
    return [(i, there.index(name)) for i, name in enumerate(here) if name in there]


def layers(state: dict) -> dict[str, dict]:
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
    """Copies one layer's tensors; returns why not, or None. axis: the one that counts classes, None if none does."""
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
    """The part of a network that a layer is reported with: ups.1.norm_0.shared -> ups.1, head.conv_0 -> head."""
    return re.match(r"[^.]*(\.\d+)?", layer)[0]


def differing_settings(here: dict, there: dict) -> list[str]:
    """Names arguments that differ, those that no shape shows among them, such as strides."""
    return [f"{key} {here[key]} here, {there.get(key)} there" for key in here if here[key] != there.get(key)]


@torch.no_grad()
def take_network(name: str, network, entry: dict, pairing, class_axes: dict[str, int]) -> tuple[int, list[str]]:
    """(number of layers taken, report) of one network; entry: its record there; pairing: class names here and there."""
    theirs, taken, faults = layers(entry["state"]), defaultdict(int), defaultdict(list)
    for layer, tensors in layers(network.state_dict()).items():
        axis = next((axis for pattern, axis in class_axes.items() if re.fullmatch(pattern, f"{name}.{layer}")), None)
        fault = take_layer(tensors, theirs.get(layer, {}), axis, *pairing)
        if fault is None:
            taken[group_of(layer)] += 1
        else:
            faults[group_of(layer)].append(f"{layer}: {fault}")
    count = sum(taken.values())
    of_all = count + sum(map(len, faults.values()))
    summary = [f"{name}: {count} of {of_all} layers taken", *differing_settings(network.arguments, entry["arguments"])]
    lines = ["; ".join(summary)]
    for group, found in faults.items():
        lines.append(f"{name}.{group}: {len(found)} of {len(found) + taken[group]} layers begin anew ({found[0]})")
    return count, lines


def take(state: TrainingState, source: Source, here: list[str], class_axes: dict[str, int]) -> list[str]:
    """Puts what fits into the networks, and what these then are into their averages; returns a report, line by line.

    The last weights are taken, not the averages: a critic knows the last generator. Optimisers begin anew.
    here: the classes' names; class_axes: regular expression of NETWORK.LAYER -> the axis of its tensors that counts
    classes. Raises UserError where nothing fits.
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
