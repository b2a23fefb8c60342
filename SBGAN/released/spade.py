"""Weights of the released SPADE code (NVlabs/SPADE and SB-GAN's fork of it, same names) for the networks here.

`*_arguments` read what can be read of the constructor's arguments off the tensors' shapes, `*_state` give the state
dict, `*_names` say what each of our tensors is called there. All are pure functions of state dicts, name -> tensor.
"""

import re

import torch

from datasets.errors import UserError
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder
from SPADE.pretrained import load_weights

SPADE_KEYS = {  # a tensor that each of SPADE's networks has, and no other
    "generator": "head_0.conv_0.weight_orig",
    "discriminator": "discriminator_0.model0.0.weight",
    "encoder": "layer1.0.weight_orig",
}


def flatten(content, prefix="") -> dict[str, torch.Tensor]:
    """Tensors in nested dictionaries, by the names on the way to them."""
    if isinstance(content, torch.Tensor):
        return {prefix[:-1]: content}
    if not isinstance(content, dict):
        return {}
    found = {}
    for key, value in content.items():
        found |= flatten(value, f"{prefix}{key}.")
    return found


def state_with(tensors: dict, keys, path, what: str) -> dict | None:
    """The one state dict among the tensors that has one of the keys, under its own names; None if there is none."""
    prefixes = sorted({name[: -len(key)] for name in tensors for key in keys if name.endswith(key)})
    prefixes = [prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")]
    if len(prefixes) > 1:
        raise UserError(f"{path} has several networks that could be the {what}, under {', '.join(prefixes)}; keep one")
    if not prefixes:
        return None
    return {name.removeprefix(prefixes[0]): t for name, t in tensors.items() if name.startswith(prefixes[0])}


def read_spade(path, kind: str) -> dict:
    """State dict of one of SPADE's networks, whatever stands before its names, such as DataParallel's "module."."""
    state = state_with(flatten(load_weights(path)), [SPADE_KEYS[kind]], path, kind)
    if state is None:
        raise UserError(
            f"{path} has no {SPADE_KEYS[kind]}: it is no released SPADE {kind}; name the file of that network"
        )
    return state


def dimension(released: dict, key: str, axis: int, what: str) -> int:
    """Length of one axis of a released tensor, which a network of that kind must have."""
    tensor = released.get(key)
    if not isinstance(tensor, torch.Tensor) or tensor.dim() <= axis or not tensor.numel():
        found = f"shape {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else "no tensor"
        raise UserError(f"this is no released {what}: {found} found for {key}; name the file of that network")
    return tensor.shape[axis]


def count(released: dict, pattern: str) -> int:
    """Counts the keys that fit a regular expression as a whole."""
    return sum(re.fullmatch(pattern, key) is not None for key in released)


def translate(released: dict, network: torch.nn.Module, names: dict[str, tuple[str, ...]], what: str) -> dict:
    """State dict for `network`, of which only names and shapes are read.

    names: our key -> the released keys whose tensors, joined along the first axis, are ours. Every released key that
    is left over, absent or of another shape is named in a UserError.
    """
    wanted = {}
    for key, tensor in network.state_dict().items():
        for part in names[key]:
            wanted[part] = [len(tensor) // len(names[key]), *tensor.shape[1:]]
    found = {key: list(value.shape) if isinstance(value, torch.Tensor) else value for key, value in released.items()}
    faults = [f"{key} is unknown" for key in found if key not in wanted]
    faults += [f"{key} is missing" for key in wanted if key not in found]
    faults += [
        f"{key} has shape {found[key]}, wanted {shape}" if isinstance(found[key], list) else f"{key} is no tensor"
        for key, shape in wanted.items()
        if key in found and found[key] != shape
    ]
    if faults:
        raise UserError(f"this does not fit a released {what}: {'; '.join(faults)}; name the file of that network")
    return {
        key: released[parts[0]] if len(parts) == 1 else torch.cat([released[part] for part in parts])
        for key, parts in names.items()
    }


def substitute(key: str, rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


SPECTRAL_RULES = (  # after the convolution's own name: torch's names for what spectral norm keeps
    (r"\.weight$", ".weight_orig"),
    (r"\.([uv])$", r".weight_\1"),
)

GENERATOR_RULES = (
    (r"^stem\.", "fc."),
    (r"^head\.", "head_0."),
    (r"^mid_", "G_middle_"),
    (r"^ups\.", "up_"),
    (r"^to_rgb\.", "conv_img."),
    (r"\.norm\.", ".param_free_norm."),
    (r"\.shared\.", ".mlp_shared.0."),
)


def generator_names(network: SPADEGenerator) -> dict[str, tuple[str, ...]]:
    def released(key):
        name = substitute(key, GENERATOR_RULES)
        if re.search(r"\.conv_.\.", name):
            return (substitute(name, SPECTRAL_RULES),)
        if ".gamma_beta." in name:
            return tuple(name.replace("gamma_beta", part) for part in ("mlp_gamma", "mlp_beta"))
        return (name,)

    return {key: released(key) for key in network.state_dict()}


def generator_arguments(released: dict) -> dict:
    """All but height and width, which no shape tells; `upsamplings` only where it is 7: 5 and 6 have one shape."""
    what = "SPADE generator"
    arguments = {
        "num_classes": dimension(released, "head_0.norm_0.mlp_shared.0.weight", 1, what),
        "channels": max(dimension(released, "head_0.conv_0.weight_orig", 0, what) // 16, 1),
        "hidden": dimension(released, "head_0.norm_0.mlp_shared.0.weight", 0, what),
        "style_dim": dimension(released, "fc.weight", 1, what),
    }
    if released["fc.weight"].dim() != 2:  # a convolution of the layout, no linear layer of a style
        arguments["style_dim"] = 0
    if "up_4.conv_0.weight_orig" in released:
        arguments["upsamplings"] = 7
    return arguments


def start_area(released: dict) -> int | None:
    """Height times width of the start, which shapes tell where a style vector becomes it, and else do not."""
    arguments = generator_arguments(released)
    return len(released["fc.weight"]) // (16 * arguments["channels"]) if arguments["style_dim"] else None


def without_channel(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """Weights of a convolution without one of its input channels."""
    return torch.cat([tensor[:, :index], tensor[:, index + 1 :]], 1)


def generator_without_class(released: dict, index: int) -> dict:
    """The state dict as if there were no such class."""
    style = generator_arguments(released)["style_dim"]
    seeing = ("mlp_shared.0.weight",) if style else ("mlp_shared.0.weight", "fc.weight")
    return {key: without_channel(t, index) if key.endswith(seeing) else t for key, t in released.items()}


def discriminator_without_class(released: dict, index: int) -> dict:
    return {key: without_channel(t, index) if key.endswith("model0.0.weight") else t for key, t in released.items()}


def generator_state(released: dict) -> dict:
    arguments = {"upsamplings": 5, **generator_arguments(released)}
    side = 2 ** arguments["upsamplings"]
    with torch.device("meta"):
        network = SPADEGenerator(**arguments, height=side, width=max(start_area(released) or 1, 1) * side)
    # Batch norm's counters are never used: the momentum is constant.
    released = {key: value for key, value in released.items() if not key.endswith(".num_batches_tracked")}
    return translate(released, network, generator_names(network), "SPADE generator")


def discriminator_names(network: MultiscaleDiscriminator) -> dict[str, tuple[str, ...]]:
    last = len(network.arguments["strides"])

    def released(key):
        scale, layer, leaf = re.fullmatch(r"scales\.(\d+)\.(first|middle\.\d+|last)\.(\w+)", key).groups()
        if layer == "first":
            name = f"model0.0.{leaf}"
        elif layer == "last":
            name = f"model{last}.0.{leaf}"
        else:
            number = int(layer.split(".")[1]) + 1
            name = substitute(f"model{number}.0.0.{leaf}", SPECTRAL_RULES)
        return (f"discriminator_{scale}.{name}",)

    return {key: released(key) for key in network.state_dict()}


def discriminator_arguments(released: dict, last_stride: int) -> dict:
    """last_stride: of the layer before the scores, which no shape tells: 1 in SPADE as published, 2 in its fork."""
    what = "SPADE discriminator"
    layers = count(released, r"discriminator_0\.model\d+\..*weight(_orig)?") - 1
    return {
        "in_channels": dimension(released, "discriminator_0.model0.0.weight", 1, what),
        "channels": dimension(released, "discriminator_0.model0.0.weight", 0, what),
        "strides": (2,) * (layers - 1) + (last_stride,),
        "scales": count(released, r"discriminator_\d+\.model0\.0\.weight"),
    }


def discriminator_state(released: dict) -> dict:
    with torch.device("meta"):
        network = MultiscaleDiscriminator(**discriminator_arguments(released, last_stride=1))
    return translate(released, network, discriminator_names(network), "SPADE discriminator")


def encoder_names(network: StyleEncoder) -> dict[str, tuple[str, ...]]:
    def released(key):
        module, leaf = key.rsplit(".", 1)
        if module.startswith("convs."):
            number = int(module.split(".")[1]) + 1
            return (substitute(f"layer{number}.0.{leaf}", SPECTRAL_RULES),)
        return ({"mean": "fc_mu", "log_variance": "fc_var"}[module] + f".{leaf}",)

    return {key: released(key) for key in network.state_dict()}


def encoder_arguments(released: dict) -> dict:
    what = "SPADE encoder"
    return {
        "channels": dimension(released, "layer1.0.weight_orig", 0, what),
        "style_dim": dimension(released, "fc_mu.weight", 0, what),
        "layers": 6,  # the released one runs with no other number
    }


def encoder_state(released: dict) -> dict:
    with torch.device("meta"):
        network = StyleEncoder(**encoder_arguments(released))
    return translate(released, network, encoder_names(network), "SPADE encoder")
