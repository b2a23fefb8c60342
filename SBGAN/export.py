"""python -m SBGAN.export: a trained model as one ONNX file that runs without this code, or as a small checkpoint.

of stage 3, or of stages 1 and 2    latents in, layout and image out
of stage 2 alone                    layout in, image out

NAME.pt instead of NAME.onnx: the generators alone, the averages of their weights in half precision, to draw with.

Examples:
    python -m SBGAN.export --checkpoint weights/camvid_finetune/finetune_4.pt --out scenes.onnx
    python -m SBGAN.export --checkpoint weights/camvid_spade/spade_48.pt --out images_of_layouts.onnx
    python -m SBGAN.export --checkpoint weights/toy_street_finetune/finetune_1.pt --out small.pt
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from datasets.errors import UserError, exit_on_user_error
from datasets.files import explained
from SBGAN.discretize import argmax
from SBGAN.drawing.files import REMEDY, check_file, replacing
from SBGAN.model import STAGES, Model, class_offsets, load
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.images import to_uint8
from SPADE.modulation import SpectralConv2d, plain_twin

OPSET = 18


@dataclass(frozen=True)
class ExportSettings:
    checkpoint: str = setting(help="of stage 3; of stage 2; or of stage 1, with --spade_checkpoint")
    out: str = setting(help="file to write, NAME.onnx or NAME.pt")
    spade_checkpoint: str | None = setting(None, "with a checkpoint of stage 1: SPADE's of stage 2")
    overwrite: bool = setting(False, "replace the file that --out names")


def without_spectral_norm(network: nn.Module) -> nn.Module:
    """Replaces a network's convolutions by ordinary ones of the normalised weights."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SpectralConv2d):
                weight = layer.weight / layer.sigma()
                conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], layer.stride, layer.padding,
                                 bias=layer.bias is not None)  # fmt: skip
                conv.load_state_dict({"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias}))
                setattr(parent, name, conv)
    return network


class Renderer(nn.Module):
    """layout uint8 [N,1,h,w] (train ids) (and style float [N,style_dim]) -> image uint8 [N,3,H,W].

    By the generator's plain form: the fast one has autograd functions of its own, or is exported wrongly.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.spade_generator = without_spectral_norm(plain_twin(model.spade_generator).eval())
        self.num_classes = model.label_space.num_classes

    def forward(self, layout, style=None):
        # Not by scattering, which ONNX's tracing would fix to one size.
        one_hot = (layout == torch.arange(self.num_classes).view(1, -1, 1, 1)).float()  # [N,C,h,w]
        image = self.spade_generator(one_hot, style=style)
        return to_uint8(image)


class Scene(nn.Module):
    """latents float [N,latent_dim] (and style float [N,style_dim]) -> layout uint8 [N,1,h,w], image uint8 [N,3,H,W]."""

    def __init__(self, model: Model):
        super().__init__()
        self.layout_generator = plain_twin(model.layout_generator)
        self.register_buffer("offsets", class_offsets(model.layout_generator))
        self.renderer = Renderer(model)

    def forward(self, latents, style=None):
        layout = argmax(self.layout_generator(latents), self.offsets)  # uint8 [N,1,h,w]
        return layout, self.renderer(layout, style)


@dataclass(frozen=True)
class Exported:
    """A network to be written, with an example of each input and the axes that stay free, by the inputs' names."""

    network: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    free_axes: dict[str, dict[int, str]]


def exported(model: Model, count: int = 2) -> Exported:
    """The whole way from latents to an image, or SPADE alone where there is no layout generator."""
    batch = {0: "batch"}
    style_dim = model.spade_generator.style_dim
    style = {"style": torch.randn(count, style_dim)} if style_dim else {}
    if model.layout_generator is None:
        layout = torch.zeros(count, 1, model.data["height"], model.data["width"], dtype=torch.uint8)
        free = {"layout": batch | {2: "rows", 3: "columns"}, "style": batch, "image": batch}
        return Exported(Renderer(model), {"layout": layout} | style, ("image",), free)
    latents = torch.randn(count, model.layout_generator.latent_dim)
    free = dict.fromkeys(("latents", "style", "layout", "image"), batch)
    return Exported(Scene(model), {"latents": latents} | style, ("layout", "image"), free)


def write(what: Exported, path: Path):
    """Writes the file."""
    try:
        import onnx  # noqa: F401 (what torch.onnx.export writes with)
    except ImportError as error:
        raise UserError("export needs the package onnx: pip install onnx") from error
    names = (*what.inputs, *what.outputs)
    with replacing(path) as temporary, warnings.catch_warnings():
        # By tracing: PyTorch's newer exporter fixes the batch size of these networks, and takes minutes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            what.network.eval().requires_grad_(False),  # without gradients, or autograd functions would be traced
            tuple(what.inputs.values()),
            str(temporary),
            input_names=list(what.inputs),
            output_names=list(what.outputs),
            dynamic_axes={name: what.free_axes[name] for name in names},
            opset_version=OPSET,
            dynamo=False,
        )


def described(what: Exported, data: dict) -> str:
    """Inputs -> outputs, with their types and shapes."""
    style = [f"style float32 [batch,{what.inputs['style'].shape[1]}]"] if "style" in what.inputs else []
    image = f"image uint8 [batch,3,{data['height']},{data['width']}]"
    if "layout" in what.inputs:
        return ", ".join(["layout uint8 [batch,1,rows,columns] (train ids, of any size)", *style]) + f" -> {image}"
    latents = f"latents float32 [batch,{what.inputs['latents'].shape[1]}]"
    return ", ".join([latents, *style]) + f" -> layout uint8 (train ids), {image}"


def write_small(path: str, out: Path):
    """A checkpoint of the generators alone: what `load` draws with, its numbers in half precision."""
    found = checkpoint.read(path, *STAGES)
    networks = {
        name: {"arguments": entry["arguments"], "state": halved(entry.get("average", entry["state"]))}
        for name, entry in found.content["networks"].items()
        if "discriminator" not in name
    }
    kept = {key: found.content[key] for key in ("images_seen", "resolution", "alpha") if key in found.content}
    with explained(out, REMEDY):
        checkpoint.save(out, found.stage, {"data": found.content["data"], "networks": networks} | kept)


def halved(state: dict) -> dict:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ExportSettings, arguments, "SBGAN.export", __doc__)
    out = Path(config.out)
    check_file(out, config.overwrite)
    if out.suffix == ".pt":
        wanted = "left out with a checkpoint to write"
        require(not config.spade_checkpoint, "spade_checkpoint", config.spade_checkpoint, wanted, "take one of stage 3")
        write_small(config.checkpoint, out)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; python -m SBGAN.app --checkpoint {out}")
        return
    model = load(config.checkpoint, config.spade_checkpoint, "cpu")
    if model.spade_generator is None:
        raise UserError(f"{config.checkpoint} is half of a model; take one of stage 3, or name SPADE's checkpoint too")
    what = exported(model)
    write(what, out)
    print(f"{out}: ONNX opset {OPSET}, any batch size; {described(what, model.data)}")


if __name__ == "__main__":
    main()
