"""SPADE's two objectives on a real pair, as dictionaries of weighted terms. Stages 2 and 3 both call them."""

from dataclasses import dataclass

import torch

from datasets.labels import one_hot
from SPADE import losses
from SPADE.engine.device import widened
from SPADE.networks import SegmentationCritic, discriminate, sample_style
from SPADE.perceptual import vgg_loss


@dataclass(frozen=True)
class Weights:
    """Factors of the terms (Park et al. 2019, appendix A)."""

    feature_matching: float = 10.0
    vgg: float = 10.0
    kl: float = 0.05  # of the sum over the batch: times the whole batch's size, to weigh the mean with


def encode(encoder, image, noise):
    """Image [N,3,H,W], noise [N,style_dim] -> style [N,style_dim], mean, log-variance; Nones without an encoder."""
    if encoder is None:
        return None, None, None
    mean, log_variance = (widened(part) for part in encoder(image))
    return sample_style(mean, log_variance, noise), mean, log_variance


def generator_losses(generator, discriminator, labels, image, weights: Weights, encoder=None, noise=None, vgg=None):
    """labels uint8 [N,1,H,W], image float [N,3,H,W] in [-1,1] -> {term: weighted loss, a mean over the images}.

    encoder, noise: style encoder and normal [N,style_dim] to sample its styles with, or None. vgg: images -> feature
    maps, or None to leave the perceptual term out.
    """
    style, mean, log_variance = encode(encoder, image, noise)
    fake = generator(labels, style=style)
    if isinstance(discriminator, SegmentationCritic):
        terms = {"gan": losses.segmentation_real(discriminator(fake), labels)}
    else:
        of_fake, of_real = discriminate(discriminator, fake, image, one_hot(labels, generator.num_classes))
        terms = {
            "gan": losses.hinge_generator(of_fake),
            "feature_matching": weights.feature_matching * losses.feature_matching(of_fake, of_real),
        }
    if vgg is not None:
        with torch.no_grad():
            real_features = vgg(image)
        terms["vgg"] = weights.vgg * vgg_loss(vgg(fake), real_features)
    if encoder is not None:
        terms["kl"] = weights.kl * losses.kl_divergence(mean, log_variance) / len(image)
    return terms


def discriminator_losses(
    generator, discriminator, labels, image, encoder=None, noise=None, real_classes=None, lambda_mix=0.0
):
    """Losses on images drawn anew, without gradients for the generator -> {term: loss}.

    real_classes, lambda_mix: of LabelMix, which a segmentation critic is also trained with: bool [N,C], those whose
    pixels the mixed image has from the real one, and the weight.
    """
    with torch.no_grad():
        style, _, _ = encode(encoder, image, noise)
        fake = generator(labels, style=style)
    if isinstance(discriminator, SegmentationCritic):
        mask = losses.label_mix(labels, real_classes)  # [N,1,H,W]
        mixed = mask * image + (1 - mask) * fake
        of_real, of_fake, of_mixed = discriminator(torch.cat([image, fake, mixed])).chunk(3)  # one power iteration
        return {
            "fake": losses.segmentation_fake(of_fake),
            "real": losses.segmentation_real(of_real, labels),
            "label_mix": lambda_mix * losses.mixing_consistency(of_mixed, of_real, of_fake, mask),
        }
    of_fake, of_real = discriminate(discriminator, fake, image, one_hot(labels, generator.num_classes))
    return {"fake": losses.hinge_discriminator_fake(of_fake), "real": losses.hinge_discriminator_real(of_real)}
