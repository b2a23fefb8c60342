"""The joined model out of checkpoints: what stage 3 starts from, and what is scored and sampled."""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError
from datasets.labels import LabelSpace
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SPADE.engine import checkpoint
from SPADE.engine.device import place
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder


@dataclass(frozen=True)
class Model:
    """Both generators, and what is known of their data."""

    layout_generator: LayoutGenerator
    spade_generator: SPADEGenerator
    label_space: LabelSpace
    data: dict


def load_joined(path: Path, device) -> Model:
    """From a checkpoint of stage 3."""
    content = checkpoint.load(path, "finetune")
    return build(content["networks"], content["networks"], "layout_generator", "spade_generator", content, device)


def load_pair(layout_path: Path, spade_path: Path, device) -> Model:
    """From checkpoints of stages 1 and 2: the system before fine-tuning."""
    layout, spade = checkpoint.load(layout_path, "layout_gan"), checkpoint.load(spade_path, "spade")
    check_fit(layout, layout_path, spade, spade_path)
    return build(layout["networks"], spade["networks"], "generator", "generator", spade, device)


def build(layout_networks, spade_networks, layout_key, spade_key, content, device) -> Model:
    return Model(
        checkpoint.rebuild(LayoutGenerator, layout_networks[layout_key], device),
        checkpoint.rebuild(SPADEGenerator, spade_networks[spade_key], device),
        LabelSpace.from_dict(content["data"]["label_space"]),
        content["data"],
    )


def check_fit(layout: dict, layout_path: Path, spade: dict, spade_path: Path):
    """Both stages of one data set, of one label space, of fitting sizes. Raises UserError before anything is built."""
    a, b = layout["data"], spade["data"]
    if a["name"] != b["name"]:
        raise UserError(
            f"{layout_path} was trained on {a['name']} and {spade_path} on {b['name']}; "
            "take checkpoints of one data set"
        )
    check_label_space(a, layout_path, b, str(spade_path))
    if a["aspect"] != b["aspect"]:
        raise UserError(
            f"{layout_path} has aspect {a['aspect']} (width / height) and {spade_path} has {b['aspect']}; "
            "take checkpoints of one aspect"
        )
    rows, image_rows = layout["networks"]["generator"]["arguments"]["max_resolution"], b["height"]
    if rows > image_rows:
        raise UserError(
            f"{layout_path} makes layouts of {rows} rows, more than the {image_rows} of the images of {spade_path}; "
            f"train stage 1 with --max_dim {image_rows} or lower, or stage 2 at a larger size"
        )
    if layout["resolution"] != rows or layout["alpha"] < 1:
        raise UserError(
            f"{layout_path} is from the middle of stage 1 (row {layout['resolution']} of {rows}, alpha "
            f"{layout['alpha']:.2f}); let stage 1 finish, or take a later --pro_iter"
        )


def check_store(data: dict, path: Path, store, store_path):
    """A checkpoint and the data that it is to be trained on or scored against."""
    if data["name"] != store.name:
        raise UserError(
            f"--store {store_path} is {store.name}, but {path} was trained on {data['name']}; "
            "pass the store of that data set"
        )
    wanted = {"label_space_hash": store.label_space.hash, "label_space": store.label_space.to_dict()}
    check_label_space(data, path, wanted, f"--store {store_path}")
    if (data["height"], data["width"]) != (store.height, store.width):
        raise UserError(
            f"--store {store_path} has images of {store.height}x{store.width}, but {path} was trained on "
            f"{data['height']}x{data['width']}; prepare a store of that size, or train again"
        )


def check_label_space(a: dict, a_path, b: dict, b_name: str):
    if a["label_space_hash"] != b["label_space_hash"]:
        counts = [len(data["label_space"]["classes"]) for data in (a, b)]
        raise UserError(
            f"{a_path} has {counts[0]} classes and {b_name} has {counts[1]}, or other ones; "
            "train both stages on one label space"
        )


def load_networks(layout: dict, spade: dict, vgg, d2_channels: int, device) -> dict:
    """Every network of stage 3 but D2's weights from the contents of both checkpoints, by field of `Networks`."""
    a, b = layout["networks"], spade["networks"]
    conditional = checkpoint.rebuild(MultiscaleDiscriminator, b["discriminator"], device)
    strides = conditional.arguments["strides"]
    return {
        "layout_generator": checkpoint.rebuild(LayoutGenerator, a["generator"], device),
        "layout_discriminator": checkpoint.rebuild(ProgressiveDiscriminator, a["discriminator"], device),
        "spade_generator": checkpoint.rebuild(SPADEGenerator, b["generator"], device),
        "image_discriminator": conditional,
        "image_discriminator_2": place(MultiscaleDiscriminator(3, d2_channels, strides), device),
        "encoder": checkpoint.rebuild(StyleEncoder, b["encoder"], device) if "encoder" in b else None,
        "vgg": vgg,
    }
