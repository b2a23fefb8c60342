"""python -m SBGAN.export: a trained model as one ONNX file that runs without this code: latents in, scene out."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from datasets.errors import UserError, exit_on_user_error
from SBGAN.model import Model, load
from SBGAN.plain import plain_layout_generator
from SBGAN.saving import check_file, replacing
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.layers import SpectralConv2d
from SPADE.plain import PlainSPADEGenerator

OPSET = 18


@dataclass(frozen=True)
class ExportSettings:
    checkpoint: str = setting(help="of stage 3; or of stage 1, with --spade_checkpoint")
    out: str = setting(help="file to write, NAME.onnx")
    spade_checkpoint: str | None = setting(None, "with a checkpoint of stage 1: SPADE's of stage 2")
    overwrite: bool = setting(False, "replace the file that --out names")


def without_spectral_norm(network: nn.Module) -> nn.Module:
    """Its convolutions replaced by ordinary ones of the normalised weights."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SpectralConv2d):
                weight = layer.weight / layer.sigma()
                conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], layer.stride, layer.padding,
                                 bias=layer.bias is not None)  # fmt: skip
                conv.load_state_dict({"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias}))
                setattr(parent, name, conv)
    return network


class Scene(nn.Module):
    """latents float [N,latent_dim] (and style float [N,style_dim]) -> layout uint8 [N,1,h,w], image uint8 [N,3,H,W].

    Out of the generators' plain forms: the fast ones are functions of their own, or are exported wrongly.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.layout_generator = plain_layout_generator(model.layout_generator)
        self.spade_generator = without_spectral_norm(PlainSPADEGenerator(model.spade_generator).eval())

    def forward(self, latents, style=None):
        scores = self.layout_generator(latents)
        layout = scores.argmax(1, keepdim=True)  # [N,1,h,w]
        one_hot = (layout == torch.arange(scores.shape[1]).view(1, -1, 1, 1)).float()  # [N,C,h,w]
        image = self.spade_generator(one_hot, style=style)
        return layout.to(torch.uint8), ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def example(model: Model, count: int = 2) -> tuple:
    latents = torch.randn(count, model.layout_generator.latent_dim)
    style_dim = model.spade_generator.style_dim
    return (latents, torch.randn(count, style_dim)) if style_dim else (latents,)


def export(model: Model, path: Path):
    """Writes the file: opset 18, the batch size free."""
    try:
        import onnx  # noqa: F401 (what torch.onnx.export writes with)
    except ImportError as error:
        raise UserError("export needs the package onnx: pip install onnx") from error
    # Without gradients, or autograd functions would be traced.
    scene, inputs = Scene(model).eval().requires_grad_(False), example(model)
    names = ["latents", "style"][: len(inputs)]
    with replacing(path) as temporary, warnings.catch_warnings():
        # By tracing: PyTorch's newer exporter fixes the batch size of these networks, and takes minutes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            scene,
            inputs,
            str(temporary),
            input_names=names,
            output_names=["layout", "image"],
            dynamic_axes={name: {0: "batch"} for name in (*names, "layout", "image")},
            opset_version=OPSET,
            dynamo=False,
        )


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ExportSettings, arguments, "SBGAN.export")
    out = Path(config.out)
    check_file(out, config.overwrite)
    model = load(config.checkpoint, config.spade_checkpoint, "cpu")
    if model.layout_generator is None or model.spade_generator is None:
        raise UserError(f"{config.checkpoint} is half of a model; take one of stage 3, or name SPADE's checkpoint too")
    export(model, out)
    shapes = [f"latents float32 [batch,{model.layout_generator.latent_dim}]"]
    if model.spade_generator.style_dim:
        shapes.append(f"style float32 [batch,{model.spade_generator.style_dim}]")
    size = f"{model.data['height']},{model.data['width']}"
    print(f"{out}: ONNX opset {OPSET}, any batch size; {', '.join(shapes)} -> layout uint8 (train ids), "
          f"image uint8 [batch,3,{size}]")  # fmt: skip


if __name__ == "__main__":
    main()
