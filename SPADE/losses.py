"""Losses of SPADE, in float32. Pure functions; discriminator outputs are lists over scales of lists over layers."""

import torch
import torch.nn.functional as F

from SPADE.engine.device import widened


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

    labels: uint8 [N,1,H,W]. The mean over pixels of their class's weight is 1 (Sushko et al. 2021, eq. 2).
    """
    pixels = torch.zeros(num_classes, dtype=torch.long, device=labels.device)  # bincount's size depends on the labels
    pixels = pixels.index_add_(0, labels.flatten().long(), torch.ones_like(labels, dtype=torch.long).flatten()).float()
    weights = labels.numel() / ((pixels > 0).sum() * pixels)
    return torch.where(pixels > 0, weights, 0.0)


def segmentation_real(logits, labels):
    """Cross-entropy of each pixel's own class, classes balanced. logits [N,C+1,H,W], labels uint8 [N,1,H,W]."""
    target = labels[:, 0].long()
    weights = class_balance(labels, logits.shape[1] - 1)
    return (weights[target] * F.cross_entropy(widened(logits), target, reduction="none")).mean()


def segmentation_fake(logits):
    """Cross-entropy of "fake", the last class, at every pixel."""
    return -widened(logits).log_softmax(1)[:, -1].mean()


def label_mix(labels, real_classes):
    """Mask [N,1,H,W] of 0 and 1: the pixels whose class is one of an image's `real_classes`, bool [N,C]."""
    return torch.stack([chosen[map_.long()] for chosen, map_ in zip(real_classes.float(), labels, strict=True)])


def mixing_consistency(of_mixed, of_real, of_fake, mask):
    """Mean square of what the logits of a mixed image differ by from the mixed logits (LabelMix, eq. 4)."""
    return F.mse_loss(widened(of_mixed), widened(mask * of_real + (1 - mask) * of_fake))
