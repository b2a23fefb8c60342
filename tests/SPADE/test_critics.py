"""The segmentation critic's losses against loops over pixels; its sizes and its checkpoint."""

import math

import pytest
import torch

from SPADE import losses
from SPADE.engine import checkpoint
from SPADE.networks import SegmentationCritic, conditional_critic, segmentation_widths

C = 4


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.randint(3, (2, 1, 4, 6), dtype=torch.uint8)  # class 3 occurs nowhere
    return labels, torch.randn(2, C + 1, 4, 6, dtype=torch.float64)


def test_balanced_cross_entropy_pixel_by_pixel(batch):
    labels, logits = batch
    total, pixels = 0.0, [(n, y, x) for n in range(2) for y in range(4) for x in range(6)]
    counts = [int((labels == c).sum()) for c in range(C)]
    for n, y, x in pixels:
        c = int(labels[n, 0, y, x])
        weight = len(pixels) / (sum(count > 0 for count in counts) * counts[c])
        total -= weight * math.log(logits[n, :, y, x].softmax(0)[c])
    assert counts[3] == 0 and losses.class_balance(labels, C)[3] == 0
    found = losses.segmentation_real(logits, labels)
    torch.testing.assert_close(found.item(), total / len(pixels), rtol=1e-5, atol=0)


def test_fake_is_the_last_class(batch):
    _, logits = batch
    wanted = torch.nn.functional.cross_entropy(logits, torch.full((2, 4, 6), C))
    torch.testing.assert_close(losses.segmentation_fake(logits), wanted)


def test_label_mix_takes_whole_classes(batch):
    labels, _ = batch
    chosen = torch.tensor([[True, False, True, False], [False, False, True, True]])
    mask = losses.label_mix(labels, chosen)
    for n in range(2):
        for y in range(4):
            for x in range(6):
                assert mask[n, 0, y, x] == chosen[n, labels[n, 0, y, x].long()]


def test_a_critic_that_judges_pixels_alone_is_consistent(batch):
    labels, real = batch
    fake = torch.randn_like(real)
    mask = losses.label_mix(labels, torch.tensor([[True, False, True, False]] * 2))
    assert losses.mixing_consistency(mask * real + (1 - mask) * fake, real, fake, mask) < 1e-12
    assert losses.mixing_consistency(real, real, fake, mask) > 0.1


@pytest.mark.parametrize("height, blocks", [(64, 6), (96, 5), (32, 5), (512, 6)])
def test_sizes(height, blocks):
    assert segmentation_widths(64, height) == (128, 128, 256, 256, 512, 512)[:blocks]
    critic = SegmentationCritic(C, segmentation_widths(1, height))
    assert critic(torch.randn(1, 3, height, height)).shape == (1, C + 1, height, height)


def test_every_scale_and_skip_reaches_the_logits():
    torch.manual_seed(0)
    critic = SegmentationCritic(C, (4, 6, 8))
    critic(torch.randn(2, 3, 16, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())
    again = checkpoint.rebuild(conditional_critic, checkpoint.record(critic), torch.device("cpu"))
    x = torch.randn(1, 3, 16, 32)
    torch.testing.assert_close(again.eval()(x), critic.eval()(x))
