"""The joined model out of checkpoints: what stage 3 starts from, and what is scored and sampled."""

from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.errors import UserError
from datasets.labels import LabelSpace
from SBGAN.drawing.sample import generate_layouts
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SPADE.engine import checkpoint
from SPADE.engine.device import pick, place
from SPADE.engine.evaluation import evaluating
from SPADE.engine.images import to_uint8
from SPADE.evaluation.record import check_label_space
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder
from SPADE.sampling import latents


@dataclass(frozen=True)
class Model:
    """The generators of a checkpoint, and what is known of their data. One of stage 2 has no layout generator."""

    layout_generator: LayoutGenerator | None
    spade_generator: SPADEGenerator | None
    label_space: LabelSpace
    data: dict
    encoder: StyleEncoder | None = None

    @property
    def device(self):
        return next((self.layout_generator or self.spade_generator).parameters()).device

    def sample(self, seeds):
        """Layouts uint8 [N,1,h,w] (train ids) and images uint8 [N,3,H,W], one for each seed, on the CPU."""
        layouts = self.sample_layouts(seeds)
        return layouts, self.render(layouts, seeds)

    def sample_layouts(self, seeds):
        """uint8 [N,1,h,w], one for each seed. Each depends on its seed alone."""
        if self.layout_generator is None:
            raise UserError("this model has no layout generator (stage 2); name one of stage 3, or render layouts")
        return generate_layouts(self.layout_generator, seeds, self.device)

    def render(self, layouts, seeds, style=None):
        """Images uint8 [N,3,H,W] of layouts uint8 [N,1,h,w], one by one: in another batch a convolution rounds
        differently, and an image would depend on its neighbours. Styles: of the seeds, or style [1,D]."""
        generator = self.spade_generator
        if generator is None:
            raise UserError("this model draws layouts alone (stage 1); take one of stage 3, or name SPADE's too")
        if style is None and generator.style_dim:
            style = latents(seeds, generator.style_dim, self.device)
        elif style is not None:
            style = style.expand(len(layouts), -1)
        styles = [None] * len(layouts) if style is None else style.split(1)
        with evaluating(generator):
            pairs = zip(layouts.to(self.device).split(1), styles, strict=True)
            return torch.cat([to_uint8(generator(layout, style=one)).cpu() for layout, one in pairs])


def load(path, spade_path=None, device=None, averaged: bool = True) -> Model:
    """A trained model from a checkpoint of stage 3, of stage 2 (renders layouts), of stage 1 (draws layouts), or of
    stage 1 with SPADE's in `spade_path`: the system before fine-tuning. device: default CUDA if there is one; averaged:
    with the averages of the weights where there are some, not the last weights."""
    device = pick(device) if device is None or isinstance(device, str) else device
    if spade_path is not None:
        return load_pair(Path(path), Path(spade_path), device, averaged)
    stage = stage_of(path)
    if stage not in ("layout_gan", "spade"):
        return load_joined(Path(path), device, averaged)
    return load_one(checkpoint.load(Path(path), stage), device, averaged)


def stage_of(path) -> str | None:
    """Which training wrote a checkpoint; None where it can't be told, of which `checkpoint.load` says more."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["stage"]
    except Exception:  # whatever a damaged file raises
        return None


def load_joined(path: Path, device, averaged: bool = True) -> Model:
    """From a checkpoint of stage 3."""
    content = checkpoint.load(path, "finetune")
    networks = content["networks"]
    return build(networks["layout_generator"], networks["spade_generator"], content, device, averaged)


def load_one(content: dict, device, averaged: bool = True) -> Model:
    """From the content of a checkpoint of stage 1 or 2."""
    generator = content["networks"]["generator"]
    both = (generator, None) if content["stage"] == "layout_gan" else (None, generator)
    return build(*both, content, device, averaged)


def load_pair(layout_path: Path, spade_path: Path, device, averaged: bool = True) -> Model:
    """From checkpoints of stages 1 and 2: the system before fine-tuning."""
    layout, spade = checkpoint.load(layout_path, "layout_gan"), checkpoint.load(spade_path, "spade")
    check_fit(layout, layout_path, spade, spade_path)
    return build(layout["networks"]["generator"], spade["networks"]["generator"], spade, device, averaged)


def build(layout: dict | None, spade: dict | None, content: dict, device, averaged: bool) -> Model:
    """layout, spade: the generators' records; content: a checkpoint's, with the data and a style encoder, if any."""

    def rebuilt(cls, record):
        return checkpoint.rebuild(cls, record, device, averaged) if record else None

    return Model(
        rebuilt(LayoutGenerator, layout),
        rebuilt(SPADEGenerator, spade),
        LabelSpace.from_dict(content["data"]["label_space"]),
        content["data"],
        rebuilt(StyleEncoder, content["networks"].get("encoder")),
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


def load_networks(layout: dict, spade: dict, train_layout: bool, train_spade: bool, vgg, device) -> dict:
    """Every network of stage 3 but D2's weights from the contents of both checkpoints, by field of `Networks`.

    What goes on learning has its last weights: a critic was trained against the last generator, and is thrown by its
    average. What doesn't is the average, which stages 1 and 2 are scored by.
    """
    a, b = layout["networks"], spade["networks"]
    for name, found in (("stage 1", a), ("stage 2", b)):
        if "discriminator" not in found:
            raise UserError(f"the checkpoint of {name} has no discriminator; import it with that, or train {name}")
    conditional = checkpoint.rebuild(MultiscaleDiscriminator, b["discriminator"], device)
    d2 = {key: conditional.arguments[key] for key in ("channels", "strides")}
    return {
        "layout_generator": checkpoint.rebuild(LayoutGenerator, a["generator"], device, averaged=not train_layout),
        "layout_discriminator": checkpoint.rebuild(ProgressiveDiscriminator, a["discriminator"], device),
        "spade_generator": checkpoint.rebuild(SPADEGenerator, b["generator"], device, averaged=not train_spade),
        "image_discriminator": conditional,
        "image_discriminator_2": place(MultiscaleDiscriminator(3, **d2), device),
        "encoder": checkpoint.rebuild(StyleEncoder, b["encoder"], device, not train_spade) if "encoder" in b else None,
        "vgg": vgg,
    }
