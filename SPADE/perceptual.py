"""The perceptual loss of SPADE: L1 between VGG-19 activations (Johnson et al. 2016; Wang et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import nn

from datasets.errors import UserError
from SPADE.engine.device import widened
from SPADE.pretrained import load_weights
from SPADE.torchvision_import import torchvision

TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 in torchvision's vgg19().features
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)


class VGG19Features(nn.Module):
    """Frozen VGG-19 up to relu5_1. Gradients flow to the image, not to the weights."""

    def __init__(
        self,
        weights_path,  # torchvision's file of VGG-19 weights; None: random ones drawn from `seed`
        imagenet_normalisation=False,  # released SPADE feeds images in [-1,1] as they are
        seed=0,
    ):
        super().__init__()
        self.imagenet_normalisation = imagenet_normalisation
        with torch.device("meta"):  # the classifier, which is 9 tenths of all weights, is never made
            layers = torchvision.models.vgg19().features[: TAPS[-1] + 1]
        if weights_path is None:
            layers.to_empty(device="cpu")
            _draw_weights(layers, torch.Generator().manual_seed(seed))
        else:
            _load_weights(layers, weights_path)
        self.layers = layers.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)

    def forward(self, image):
        """image float [N,3,H,W] in [-1,1], sides >= 16 -> [relu1_1 [N,64,H,W], ..., relu5_1 [N,512,H/16,W/16]]."""
        x = image
        if self.imagenet_normalisation:
            x = ((x + 1) / 2 - self.mean) / self.deviation
        activations = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in TAPS:
                activations.append(x)
        return activations


def vgg_loss(features_fake, features_real):
    """Weighted sum of L1 distances of activations, finest first; not yet times lambda_vgg. Real ones are constants."""
    return sum(
        weight * F.l1_loss(widened(fake), widened(real.detach()))
        for weight, fake, real in zip(WEIGHTS, features_fake, features_real, strict=True)
    )


def _draw_weights(layers, generator):
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)


def _load_weights(layers, path):
    state = load_weights(path)
    wanted = layers.state_dict()
    try:
        layers.load_state_dict({key: state[f"features.{key}"] for key in wanted}, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} holds no VGG-19 of torchvision ({error}): pass the file of its weights") from error
