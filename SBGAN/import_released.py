r"""python -m SBGAN.import_released: checkpoints of the published SB-GAN and SPADE become checkpoints of this code.

    --layout 100000.pth                        the layout GAN (or the RGB baseline)
    --generator 100_net_G.pth  and, if there are any, --discriminator *_D, --discriminator_2 *_D2, --encoder *_E

Both give a checkpoint of stage 3, one of them that of its stage. Classes, widths and sizes are read off the tensors.

Examples:
    python -m SBGAN.import_released --layout 100000.pth --generator 100_net_G.pth --label_space cityscapes \
        --height 256 --width 512 --out weights/released/finetune_0.pt
    python -m SBGAN.import_released --generator latest_net_G.pth --store packed/ade --upsampling normal \
        --out weights/nvidia/spade_0.pt
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError, exit_on_user_error
from datasets.labels import load_space
from datasets.packed import open_store
from SBGAN import released as progressive
from SBGAN.drawing.files import check_file, explained
from SBGAN.stages import FINETUNE, IMAGE_GAN, LAYOUT_GAN, SPADE, STAGES
from SPADE import released as spade
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.data import data_record
from SPADE.networks import UPSAMPLINGS
from SPADE.pretrained import load_weights

GENERATOR_KEY = "blocks.0.fc1.weight"
DISCRIMINATOR_KEYS = ("blocks.0.from_mask.weight", "blocks.0.from_rgb.weight")


@dataclass(frozen=True)
class ImportSettings:
    out: str = setting(help="checkpoint to write, such as weights/published/finetune_0.pt")
    layout: str | None = setting(None, "released layout GAN or RGB ProGAN, ITERATION.pth")
    generator: str | None = setting(None, "released SPADE generator, EPOCH_net_G.pth")
    discriminator: str | None = setting(None, "its conditional discriminator, EPOCH_net_D.pth")
    discriminator_2: str | None = setting(None, "the unconditional one of stage 3, EPOCH_net_D2.pth")
    encoder: str | None = setting(None, "style encoder, EPOCH_net_E.pth")
    store: str | None = setting(None, "packed store of the data it was trained on; or")
    label_space: str | None = setting(None, "the name of a label table, or a JSON file, and")
    height: int | None = setting(None, "of its images", at_least=1)
    width: int | None = setting(None, "of its images", at_least=1)
    upsampling: str = setting("more", "SPADE's setting; Cityscapes has more, ADE-Indoor normal", tuple(UPSAMPLINGS))
    d_last_stride: int = setting(
        2, "of the conditional discriminator's last layer but one: 2 in SB-GAN, 1 in SPADE", (1, 2)
    )
    without_edges: bool = setting(False, "drop the last semantic channel, instance edges, as if there were none")
    overwrite: bool = setting(False, "replace the file that --out names")


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


def entry(arguments: dict, state: dict) -> dict:
    """As `checkpoint.record` of a network."""
    return {"arguments": arguments, "state": {key: tensor.float().clone() for key, tensor in state.items()}}


def read_layout(path: Path) -> tuple[dict, bool]:
    """{"generator": entry, and "discriminator": entry if it is there}, whether it is the RGB baseline"""
    tensors = flatten(load_weights(path))
    generator = state_with(tensors, [GENERATOR_KEY], path, "generator")
    if generator is None:
        raise UserError(f"{path} has no {GENERATOR_KEY}: it is no released layout GAN; name ITERATION.pth")
    arguments = progressive.generator_arguments(generator)
    found = {"generator": entry(arguments, progressive.generator_state(generator))}
    discriminator = state_with(tensors, DISCRIMINATOR_KEYS, path, "discriminator")
    if discriminator is not None:
        of_discriminator = progressive.discriminator_arguments(discriminator, arguments["aspect"])
        found["discriminator"] = entry(of_discriminator, progressive.discriminator_state(discriminator))
    return found, progressive.heads_of(generator) == "rgb"


def without_last_class(state: dict, keys, index: int) -> dict:
    """A state dict without one input channel of the layers that see semantics."""
    kept = dict(state)
    for key in state:
        if any(key.endswith(end) for end in keys):
            kept[key] = torch.cat([state[key][:, :index], state[key][:, index + 1 :]], 1)
    return kept


def read_spade(config, height: int, width: int) -> dict:
    """{"generator": entry, "discriminator", "discriminator_2", "encoder": those whose files are named}"""
    state = load_weights(config.generator)
    num_classes = spade.generator_arguments(state)["num_classes"]
    if config.without_edges:
        state = without_last_class(state, ("mlp_shared.0.weight", "fc.weight"), num_classes - 1)
    arguments = {"upsamplings": UPSAMPLINGS[config.upsampling], **spade.generator_arguments(state)}
    unit = 2 ** arguments["upsamplings"]
    require(height % unit == 0 and width % unit == 0, "height and --width", f"{height}x{width}",
            f"multiples of {unit}", "pass the size of its images, or another --upsampling")  # fmt: skip
    area = height * width // unit**2
    if arguments["style_dim"]:  # the start is a linear layer, whose outputs are this area's
        require(len(state["fc.weight"]) == 16 * arguments["channels"] * area, "height and --width", f"{height}x{width}",
                f"what {config.generator} was trained at", "pass that, or another --upsampling")  # fmt: skip
    found = {"generator": entry(arguments | {"height": height, "width": width}, spade.generator_state(state))}
    if config.discriminator:
        state = load_weights(config.discriminator)
        if config.without_edges:
            state = without_last_class(state, ("model0.0.weight",), num_classes - 1)
        found["discriminator"] = entry(
            spade.discriminator_arguments(state, config.d_last_stride), spade.discriminator_state(state)
        )
    if config.discriminator_2:
        state = load_weights(config.discriminator_2)
        found["discriminator_2"] = entry(spade.discriminator_arguments(state, 2), spade.discriminator_state(state))
    if config.encoder:
        state = load_weights(config.encoder)
        found["encoder"] = entry(spade.encoder_arguments(state), spade.encoder_state(state))
    check_partners(found, config)
    return found


def check_partners(found: dict, config):
    """The other networks must be of the generator's classes and style."""
    generator = found["generator"]["arguments"]
    wanted = {
        "discriminator": ("in_channels", generator["num_classes"] + 3),
        "discriminator_2": ("in_channels", 3),
        "encoder": ("style_dim", generator["style_dim"]),
    }
    for name, (argument, size) in wanted.items():
        if name in found:
            has = found[name]["arguments"][argument]
            require(has == size, name, f"{getattr(config, name)}, of {argument} {has}",
                    f"of {argument} {size} beside {config.generator}", "name the file that belongs to it")  # fmt: skip


def read_data(config) -> dict:
    if config.store is not None:
        return data_record(open_store(config.store))
    for flag in ("label_space", "height", "width"):
        require(getattr(config, flag) is not None, flag, "missing", "given where there is no --store", "pass it")
    require(config.height > 0 and config.width > 0 and config.width % config.height == 0, "height and --width",
            f"{config.height}x{config.width}", "a width that is 1, 2, ... times the height",
            "pass the size of its images")  # fmt: skip
    space = load_space(config.label_space)
    return {
        "name": space.name,
        "label_space": space.to_dict(),
        "label_space_hash": space.hash,
        "height": config.height,
        "width": config.width,
        "aspect": config.width // config.height,
    }


def check_classes(count: int, data: dict, path):
    wanted = len(data["label_space"]["classes"])
    if count != wanted:
        hint = "; pass --without_edges if the last one is instance edges" if count == wanted + 1 else ""
        raise UserError(
            f"{path} has {count} classes, but the label table {data['label_space']['name']} has {wanted}; "
            f"name the table that it was trained with{hint}"
        )


def convert(config: ImportSettings) -> tuple[str, dict]:
    """(stage, content of the checkpoint)"""
    require(config.layout or config.generator, "layout", "missing", "given, or --generator", "name a released file")
    for flag in ("discriminator", "discriminator_2", "encoder"):
        require(config.generator or not getattr(config, flag), flag, getattr(config, flag),
                "given beside --generator", "name that as well")  # fmt: skip
    data = read_data(config)
    layout, baseline = read_layout(Path(config.layout)) if config.layout else (None, False)
    image = read_spade(config, data["height"], data["width"]) if config.generator else None
    if layout is not None and not baseline:
        check_classes(layout["generator"]["arguments"]["out_channels"], data, config.layout)
    if image is not None:
        check_classes(image["generator"]["arguments"]["num_classes"], data, config.generator)
    content = {"config": {"store": config.store, "imported": settings.to_dict(config)}, "data": data, "images_seen": 0}
    if layout is not None:
        arguments = layout["generator"]["arguments"]
        require(arguments["aspect"] == data["aspect"], "layout", f"{config.layout}, of aspect {arguments['aspect']}",
                f"of aspect {data['aspect']} as its images", "pass its own data")  # fmt: skip
        rows = arguments["max_resolution"]
        require(rows <= data["height"], "height", data["height"], f"at least the {rows} rows of {config.layout}",
                "pass the size of its images")  # fmt: skip
        content |= {"resolution": rows, "alpha": 1.0}
    if layout is None:
        return SPADE.name, content | {"epoch": 0, "networks": image}
    if image is None:
        return (IMAGE_GAN if baseline else LAYOUT_GAN).name, content | {"networks": layout}
    require(not baseline, "layout", f"{config.layout}, an RGB ProGAN", "a layout GAN with --generator", "name that")
    names = {
        "layout_generator": layout["generator"],
        "layout_discriminator": layout.get("discriminator"),
        "spade_generator": image["generator"],
        "image_discriminator": image.get("discriminator"),
        "image_discriminator_2": image.get("discriminator_2"),
        "encoder": image.get("encoder"),
    }
    networks = {name: network for name, network in names.items() if network is not None}
    # No origin: the checkpoints of stages 1 and 2 that it was fine-tuned from were not published.
    return FINETUNE.name, content | {"epoch": 0, "origin": {}, "networks": networks}


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ImportSettings, arguments, "SBGAN.import_released", __doc__)
    out = Path(config.out)
    check_file(out, config.overwrite)
    stage, content = convert(config)
    for name, record in content["networks"].items():
        network = checkpoint.rebuild(STAGES[stage].networks[name], record)  # that it loads, before writing
        count = sum(p.numel() for p in network.parameters())
        print(f"{name}: {count} parameters, {record['arguments']}")
    with explained(out):
        checkpoint.save(out, stage, content)
    print(f"checkpoint of stage {stage}: {out}")


if __name__ == "__main__":
    main()
