"""Losses of SPADE, in float32: pure functions of tensors, and the two objectives that stages 2 and 3 make of them.

Discriminator outputs are lists over scales of lists over layers.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from datasets.errors import UserError
from datasets.labels import one_hot
from SPADE import augmentation
from SPADE.engine.device import widened
from SPADE.engine.distributed import total
from SPADE.networks import SegmentationCritic, discriminate, sample_style
from SPADE.pretrained import load_weights, torchvision


def hinge_discriminator_real(outputs):
    """Mean over scales of E max(0, 1 - D(real)) (Lim & Ye, *Geometric GAN*, 2017)."""
    return torch.stack([F.relu(1 - widened(scale[-1])).mean() for scale in outputs]).mean()


def hinge_discriminator_fake(outputs):
    """Mean over scales of E max(0, 1 + D(fake))."""
    return torch.stack([F.relu(1 + widened(scale[-1])).mean() for scale in outputs]).mean()


def hinge_generator(outputs):
    """Mean over scales of -E D(fake)."""
    return torch.stack([-widened(scale[-1]).mean() for scale in outputs]).mean()


def feature_matching(fake, real):
    """Sum over layers but the last of the L1 distance of activations, mean over scales (Wang et al. 2018, eq. 4)."""
    distances = [
        F.l1_loss(widened(f), widened(r.detach()))
        for fake_scale, real_scale in zip(fake, real, strict=True)
        for f, r in zip(fake_scale[:-1], real_scale[:-1], strict=True)
    ]
    return torch.stack(distances).sum() / len(fake)


def kl_divergence(mean, log_variance):
    """KL(N(mean, e^log_variance) || N(0, I)), summed over the batch and the dimensions, as SPADE weighs it."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()


def class_balance(labels, num_classes: int):
    """Weight of each class, [C]: pixels of the batch / (classes present * pixels of the class), 0 for absent ones.

    labels: uint8 [N,1,H,W], this process's of the batch. The mean over the batch's pixels of their class's weight is 1
    (Sushko et al. 2021, eq. 2).
    """
    pixels = torch.zeros(num_classes, dtype=torch.long, device=labels.device)  # bincount's size depends on the labels
    pixels = pixels.index_add_(0, labels.flatten().long(), torch.ones_like(labels, dtype=torch.long).flatten())
    pixels = total(pixels).float()
    weights = pixels.sum() / ((pixels > 0).sum() * pixels)
    return torch.where(pixels > 0, weights, 0.0)


def balance_for(critic, labels):
    """`class_balance` of a step's labels for a segmentation critic, before they are cut into parts; None for others."""
    return class_balance(labels, critic.arguments["num_classes"]) if isinstance(critic, SegmentationCritic) else None


def segmentation_real(logits, labels, balance=None):
    """Cross-entropy of each pixel's own class, classes balanced. logits [N,C+1,H,W], labels uint8 [N,1,H,W].

    balance: `class_balance` of the whole batch, where these are a part of it.
    """
    target = labels[:, 0].long()
    if balance is None:
        balance = class_balance(labels, logits.shape[1] - 1)
    return (balance[target] * F.cross_entropy(widened(logits), target, reduction="none")).mean()


def segmentation_fake(logits):
    """Cross-entropy of "fake", the last class, at every pixel."""
    return -widened(logits).log_softmax(1)[:, -1].mean()


def label_mix(labels, real_classes):
    """Mask [N,1,H,W] of 0 and 1: the pixels whose class is one of an image's `real_classes`, bool [N,C]."""
    return torch.stack([chosen[map_.long()] for chosen, map_ in zip(real_classes.float(), labels, strict=True)])


def mixing_consistency(of_mixed, of_real, of_fake, mask):
    """Mean square of what the logits of a mixed image differ by from the mixed logits (LabelMix, eq. 4)."""
    return F.mse_loss(widened(of_mixed), widened(mask * of_real + (1 - mask) * of_fake))


# --- The perceptual loss: L1 between VGG-19 activations (Johnson et al. 2016; Wang et al. 2018) ---

TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 in torchvision's vgg19().features
TAP_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)


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
        for weight, fake, real in zip(TAP_WEIGHTS, features_fake, features_real, strict=True)
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


# --- The objectives on a real pair, as dictionaries of weighted terms ---


@dataclass(frozen=True)
class Weights:
    """Factors of the terms (Park et al. 2019, appendix A)."""

    feature_matching: float = 10.0
    vgg: float = 10.0
    kl: float = 0.05  # of the sum over the batch: times the whole batch's size, to weigh the mean with


def draw_noise(generator, discriminator, num: int, device, kinds=()) -> dict:
    """Draws all random numbers of one descent on real pairs before its batch is cut into parts: no sample's depend on
    their size. kinds: of augmentation."""
    style_dim, num_classes = generator.style_dim, generator.num_classes
    by_pixel = isinstance(discriminator, SegmentationCritic)
    return {
        "encoder": torch.randn(num, style_dim, device=device) if style_dim else None,  # in the encoder's styles
        "offsets": generator.draw_offsets(num, device),  # of SPADE's noise
        "augmentation": augmentation.draw(num, kinds, device),  # of what the critics see
        "real_classes": torch.rand(num, num_classes, device=device) < 0.5 if by_pixel else None,  # of LabelMix
    }


def encode(encoder, image, noise):
    """Image [N,3,H,W], noise [N,style_dim] -> style [N,style_dim], mean, log-variance; Nones without an encoder."""
    if encoder is None:
        return None, None, None
    mean, log_variance = (widened(part) for part in encoder(image))
    return sample_style(mean, log_variance, noise), mean, log_variance


def generator_losses(
    generator, discriminator, labels, image, weights: Weights, encoder=None, noise=None, vgg=None, kept=None,
    offsets=None, balance=None,
):  # fmt: skip
    """labels uint8 [N,1,H,W], image float [N,3,H,W] in [-1,1] -> {term: weighted loss, a mean over the images}.

    encoder, noise: style encoder and normal [N,style_dim] to sample its styles with, or None. vgg: images -> feature
    maps, or None to leave the perceptual term out. kept: list to keep the drawn images in. offsets: of their noise.
    balance: of `balance_for`.
    """
    style, mean, log_variance = encode(encoder, image, noise)
    fake = generator(labels, style=style, offsets=offsets)
    if kept is not None:
        kept.append(fake.detach())
    if isinstance(discriminator, SegmentationCritic):
        terms = {"gan": segmentation_real(discriminator(fake), labels, balance)}
    else:
        of_fake, of_real = discriminate(discriminator, fake, image, one_hot(labels, generator.num_classes))
        terms = {
            "gan": hinge_generator(of_fake),
            "feature_matching": weights.feature_matching * feature_matching(of_fake, of_real),
        }
    if vgg is not None:
        with torch.no_grad():
            real_features = vgg(image)
        terms["vgg"] = weights.vgg * vgg_loss(vgg(fake), real_features)
    if encoder is not None:
        terms["kl"] = weights.kl * kl_divergence(mean, log_variance) / len(image)
    return terms


def discriminator_losses(
    generator, discriminator, labels, image, encoder=None, noise=None, real_classes=None, lambda_mix=0.0, fake=None,
    offsets=None, balance=None,
):  # fmt: skip
    """Losses of the critic on drawn and real images -> {term: loss}.

    fake: images drawn already, [N,3,H,W]; None: drawn here, without gradients.
    real_classes, lambda_mix: of LabelMix, which a segmentation critic is also trained with: bool [N,C], those whose
    pixels the mixed image has from the real one, and the weight. balance: of `balance_for`.
    """
    if fake is None:
        with torch.no_grad():
            style, _, _ = encode(encoder, image, noise)
            fake = generator(labels, style=style, offsets=offsets)
    if isinstance(discriminator, SegmentationCritic):
        mask = label_mix(labels, real_classes)  # [N,1,H,W]
        mixed = mask * image + (1 - mask) * fake
        of_real, of_fake, of_mixed = discriminator(torch.cat([image, fake, mixed])).chunk(3)  # one power iteration
        return {
            "fake": segmentation_fake(of_fake),
            "real": segmentation_real(of_real, labels, balance),
            "label_mix": lambda_mix * mixing_consistency(of_mixed, of_real, of_fake, mask),
        }
    of_fake, of_real = discriminate(discriminator, fake, image, one_hot(labels, generator.num_classes))
    return {"fake": hinge_discriminator_fake(of_fake), "real": hinge_discriminator_real(of_real)}
