"""python -m SBGAN.import_released: checkpoints of the published SB-GAN and SPADE become checkpoints of this code.

    --layout 100000.pth                        the layout GAN (or the RGB baseline)
    --generator 100_net_G.pth  and, if there are any, --discriminator *_D, --discriminator_2 *_D2, --encoder *_E

Both give a checkpoint of stage 3, one of them that of its stage. Classes and widths are read off the tensors; the
layout GAN ends at the height that it had grown to.

Examples:
    python -m SBGAN.import_released --layout 100000.pth --generator 100_net_G.pth --label_space cityscapes \
        --height 256 --width 512 --out weights/released/finetune_0.pt
    python -m SBGAN.import_released --generator latest_net_G.pth --store packed/ade --upsampling normal \
        --out weights/nvidia/spade_0.pt
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError, exit_on_user_error
from datasets.files import explained
from datasets.labels import load_space
from datasets.packed import open_store
from SBGAN.drawing.files import REMEDY, check_file
from SBGAN.model import FINETUNE, IMAGE_GAN, LAYOUT_GAN, SPADE_STAGE, STAGES
from SBGAN.released import progressive, spade
from SBGAN.released.progressive import ReleasedLayoutGAN, read_layout
from SBGAN.released.spade import read_spade
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import data_record
from SPADE.engine.config import require, setting
from SPADE.networks import UPSAMPLINGS


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
    upsampling: str | None = setting(
        None,
        "SPADE's setting; asked for unless the tensors or the label table (Cityscapes, ADE-Indoor) tell it",
        tuple(UPSAMPLINGS),
    )
    d_last_stride: int | None = setting(
        None,
        "of the conditional discriminator's last layer but one: 2 in SB-GAN, 1 in NVIDIA's SPADE; asked for "
        "unless the other files are SB-GAN's",
        (1, 2),
    )
    without_edges: bool = setting(False, "drop the last semantic channel, instance edges, as if there were none")
    overwrite: bool = setting(False, "replace the file that --out names")


# --- Released networks -> the content of a checkpoint of this code ---

UPSAMPLING_OF_TABLE = {"cityscapes": "more", "cityscapes_25k": "more", "ade_indoor": "normal"}  # as published


def convert(config) -> tuple[str, dict]:
    """(stage, content of the checkpoint); config: ImportSettings. Raises UserError."""
    require(config.layout or config.generator, "layout", "missing", "given, or --generator", "name a released file")
    for flag in ("discriminator", "discriminator_2", "encoder"):
        require(config.generator or not getattr(config, flag), flag, getattr(config, flag),
                "given beside --generator", "name that as well")  # fmt: skip
    data = read_data(config)
    released = read_layout(Path(config.layout)) if config.layout else None
    image = spade_networks(config, data) if config.generator else None
    content = {"config": {"store": config.store, "imported": settings.to_dict(config)}, "data": data, "images_seen": 0}
    if released is None:
        return SPADE_STAGE.name, content | {"epoch": 0, "networks": image}
    layout = layout_networks(released, config, data)
    rows, of_rows = released.growth.rows, released.growth.of_rows
    if rows < of_rows:
        print(f"{config.layout} has grown to {rows} of {of_rows} rows: its networks end there")
    # How far a fade had come is not in the file. Stage 3 refuses what is less than 1.
    content |= {"resolution": rows, "alpha": 0.0 if released.growth.fading else 1.0}
    if image is None:
        return (IMAGE_GAN if released.baseline else LAYOUT_GAN).name, content | {"networks": layout}
    require(not released.baseline, "layout", f"{config.layout}, an RGB ProGAN", "a layout GAN with --generator",
            "name that")  # fmt: skip
    require(not released.growth.fading, "layout",
            f"{config.layout}, from the middle of stage 1 (the fade to {rows} rows)",
            "of its end with --generator", "name a later ITERATION.pth")  # fmt: skip
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


def read_data(config) -> dict:
    """The checkpoint's record of its data, from the store or from the flags in its place."""
    if config.store is not None:
        return data_record(open_store(config.store))
    for flag in ("label_space", "height", "width"):
        require(getattr(config, flag) is not None, flag, "missing", "given where there is no --store", "pass it")
    height, width = config.height, config.width
    require(height > 0 and width > 0 and width % height == 0, "height and --width", f"{height}x{width}",
            "a width that is 1, 2, ... times the height", "pass the size of its images")  # fmt: skip
    space = load_space(config.label_space).of_classes
    return {
        "name": space.name,
        "label_space": space.to_dict(),
        "label_space_hash": space.hash,
        "height": height,
        "width": width,
        "aspect": width // height,
    }


def entry(arguments: dict, state: dict) -> dict:
    """A network as `checkpoint.record` gives it."""
    return {"arguments": arguments, "state": {key: tensor.float().clone() for key, tensor in state.items()}}


def check_classes(count: int, data: dict, path):
    wanted = len(data["label_space"]["classes"])
    if count != wanted:
        hint = "; pass --without_edges if the last one is instance edges" if count == wanted + 1 else ""
        raise UserError(
            f"{path} has {count} classes, but the label table {data['label_space']['name']} has {wanted}; "
            f"name the table that it was trained with{hint}"
        )


def layout_networks(released: ReleasedLayoutGAN, config, data: dict) -> dict:
    """{"generator": entry, and "discriminator": entry if it is there}"""
    arguments = progressive.generator_arguments(released.generator)
    networks = {"generator": entry(arguments, progressive.generator_state(released.generator))}
    if not released.baseline:
        check_classes(arguments["out_channels"], data, config.layout)
    require(arguments["aspect"] == data["aspect"], "layout", f"{config.layout}, of aspect {arguments['aspect']}",
            f"of aspect {data['aspect']} as its images", "pass its own data")  # fmt: skip
    rows = released.growth.rows
    require(rows <= data["height"], "height", data["height"], f"at least the {rows} rows of {config.layout}",
            "pass the size of its images")  # fmt: skip
    if released.discriminator is not None:
        of_discriminator = progressive.discriminator_arguments(released.discriminator, arguments["aspect"])
        networks["discriminator"] = entry(of_discriminator, progressive.discriminator_state(released.discriminator))
    return networks


def spade_networks(config, data: dict) -> dict:
    """{"generator": entry, "discriminator", "discriminator_2", "encoder": those whose files are named}"""
    state = read_spade(config.generator, "generator")
    num_classes = spade.generator_arguments(state)["num_classes"]
    if config.without_edges:
        state = spade.generator_without_class(state, num_classes - 1)
    arguments = spade.generator_arguments(state)
    arguments |= {"upsamplings": upsamplings_of(state, config, data), "height": data["height"], "width": data["width"]}
    check_classes(arguments["num_classes"], data, config.generator)
    found = {"generator": entry(arguments, spade.generator_state(state))}
    for name, in_channels in (("discriminator", arguments["num_classes"] + 3), ("discriminator_2", 3)):
        if getattr(config, name):
            state = read_spade(getattr(config, name), "discriminator")
            if config.without_edges and name == "discriminator":
                state = spade.discriminator_without_class(state, num_classes - 1)
            of_discriminator = spade.discriminator_arguments(state, last_stride=2)  # SB-GAN's, which alone has D2
            check_partner(config, name, of_discriminator, "in_channels", in_channels)
            if name == "discriminator":
                *strides, _ = of_discriminator["strides"]
                of_discriminator["strides"] = (*strides, last_stride(config, layers=len(strides) + 1))
            found[name] = entry(of_discriminator, spade.discriminator_state(state))
    if config.encoder:
        state = read_spade(config.encoder, "encoder")
        check_partner(config, "encoder", spade.encoder_arguments(state), "style_dim", arguments["style_dim"])
        found["encoder"] = entry(spade.encoder_arguments(state), spade.encoder_state(state))
    return found


def check_partner(config, name: str, arguments: dict, argument: str, size: int):
    """The other networks must be of the generator's classes and style."""
    has = arguments[argument]
    require(has == size, name, f"{getattr(config, name)}, of {argument} {has}",
            f"of {argument} {size} beside {config.generator}", "name the file that belongs to it")  # fmt: skip


def upsamplings_of(state: dict, config, data: dict) -> int:
    """Doublings of the generator's start: as asked for, as tensors tell, or as published for the label table.

    Shapes tell "most" by its further block, and tell "normal" from "more" only where the start is a style's.
    """
    height, width, area = data["height"], data["width"], spade.start_area(state)
    possible = ["most"] if "up_4.conv_0.weight_orig" in state else ["normal", "more"]
    if area is not None:
        possible = [name for name in possible if height * width == area * 4 ** UPSAMPLINGS[name]]
        require(possible, "height and --width", f"{height}x{width}", f"what {config.generator} was trained at",
                "pass that")  # fmt: skip
    asked, table = config.upsampling, data["label_space"]["name"]
    if asked is None:
        known = possible[0] if len(possible) == 1 else UPSAMPLING_OF_TABLE.get(table)
        require(known, "upsampling", "missing", f"given for the label table {table}, as no shape tells it",
                f"pass the one of {' or '.join(possible)} that it was trained with")  # fmt: skip
        asked = known
    require(asked in possible, "upsampling", asked, f"{' or '.join(possible)}, which the tensors of {config.generator} "
            "are for", "pass that, or leave it out")  # fmt: skip
    unit = 2 ** UPSAMPLINGS[asked]
    require(height % unit == 0 and width % unit == 0, "height and --width", f"{height}x{width}",
            f"multiples of {unit}", "pass the size of its images, or another --upsampling")  # fmt: skip
    return UPSAMPLINGS[asked]


def last_stride(config, layers: int) -> int:
    """Stride of the conditional discriminator's last layer but one, which no shape tells.

    SB-GAN's fork of SPADE has 2, and 3 layers where it was not told otherwise; NVIDIA's SPADE has 1, and 4 layers.
    """
    if config.d_last_stride is not None:
        return config.d_last_stride
    require(config.discriminator_2 or (config.layout and layers == 3), "d_last_stride", "missing",
            f"given for {config.discriminator} ({layers} layers), whose shapes do not tell it",
            "pass 2 if SB-GAN's code trained it, 1 if NVIDIA's SPADE did")  # fmt: skip
    return 2


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
    with explained(out, REMEDY):
        checkpoint.save(out, stage, content)
    print(f"checkpoint of stage {stage}: {out}")


if __name__ == "__main__":
    main()
