"""Cases of SBGAN.benchmark: a step of each stage and SPADE's inference, each a function of the form it is done in.

Losses, optimisers and whatever else a form does not name are the product's in both, which favours the plain form:
spectral normalisation, the critic's one pass and its penalty, stage 3's sampler, memory that is kept. A step gives the
terms of its losses, so that a test can compare the forms.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from datasets.labels import load_space, one_hot
from datasets.packed import open_store
from datasets.sources.toy_street import draw
from SBGAN import discretize, joint_stage, layout_stage
from SBGAN.discretize import plain_straight_through, straight_through
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.train_finetune_end2end import FinetuneSettings
from SPADE import losses as image_losses
from SPADE.engine import step
from SPADE.engine.compilation import compile_networks
from SPADE.engine.config import require, setting
from SPADE.engine.device import PRECISIONS, autocast, place
from SPADE.engine.images import from_uint8, spread_pairs
from SPADE.engine.step import adam, descend
from SPADE.modulation import resize
from SPADE.networks import UPSAMPLINGS, MultiscaleDiscriminator, SPADEGenerator


@dataclass(frozen=True)
class Form:
    plain: bool
    precision: str  # one of PRECISIONS
    compiled: bool = False  # by torch.compile

    def place(self, network, device):
        network = network.to(device) if self.plain else place(network, device)
        if self.compiled:
            compile_networks([network], device)
        return network

    def images(self, images):
        """uint8 [N,3,H,W] -> [-1,1]"""
        images = from_uint8(images)
        return images.contiguous() if self.plain else images

    def sample(self, log_probabilities, exponential):
        """One-hot layouts, with the gradient of the softmax."""
        sample = plain_straight_through if self.plain else straight_through
        return sample(log_probabilities, exponential=exponential)

    def kept(self, sizes):
        """A list for the samples of a generator's descent, where critics are to see them again."""
        return None if self.plain or not sizes.reuse_fakes else []

    def frozen(self, *networks):
        """Context in which these networks' parameters get no gradients."""
        return contextlib.nullcontext() if self.plain else step.frozen(*networks)


FORMS = {"plain": Form(True, "fp32")} | {f"product {name}": Form(False, name) for name in PRECISIONS}
FORMS |= {f"compiled {name}": Form(False, name, compiled=True) for name in PRECISIONS}


ASPECT = 2
WHOLE = [(1.0, [])]  # a batch in one part, which the losses have at hand


@dataclass(frozen=True)
class Sizes:
    """Sizes of networks and batches; the defaults are the published widths."""

    store: str | None = setting(None, "packed data set, aspect 2, for its layouts and images; default drawn streets")
    height: int = setting(256, "of images; the width is twice that", at_least=1)
    batch_size: int = setting(1, "of inference and of stages 2 and 3", at_least=1)
    layout_height: int = setting(64, "of stage 1's layouts", at_least=4, power_of_two=True)
    layout_batch_size: int = setting(8, "of stage 1", at_least=1)
    joint_layout_height: int = setting(256, "of stage 3's layouts", at_least=4, power_of_two=True)
    upsampling: str = setting("more", "doublings from SPADE's start to the image", tuple(UPSAMPLINGS))
    ngf: int = setting(64, "SPADE's width", at_least=1)
    hidden: int = setting(128, "hidden channels of each modulation", at_least=1)
    ndf: int = setting(64, "width of the image discriminators", at_least=1)
    fmap_base: int = setting(8192, "block i of the layout GAN has fmap_base / 2^(i+1) channels,", at_least=1)
    fmap_max: int = setting(512, "but never more than this", at_least=1)
    neighbourhoods_on: str = setting("cpu", "types of devices where modulations are those of distinct neighbourhoods")
    penalty_every: int = setting(1, "of the product's stages 1 and 3; a turn is then so many steps", at_least=1)
    reuse_fakes: bool = setting(False, "critics of the product's form see the samples of the generators' descent")


@dataclass(frozen=True)
class Pairs:
    """Pairs to take batches from: the same for both forms."""

    images: torch.Tensor  # uint8 [n,3,H,W]
    labels: torch.Tensor  # uint8 [n,1,H,W]
    num_classes: int
    source: str

    def batch(self, i: int, size: int):
        rows = torch.arange(i * size, (i + 1) * size) % len(self.labels)
        return self.images[rows], self.labels[rows]


def load_pairs(sizes: Sizes, device, num: int = 16) -> Pairs:
    """`num` pairs spread over the training split, or as many drawn streets."""
    if sizes.store is None:
        drawn = [draw(seed, sizes.height, ASPECT * sizes.height) for seed in range(num)]
        images = np.stack([image.transpose(2, 0, 1) for image, _ in drawn])
        labels = np.stack([labels[None] for _, labels in drawn])
        found = torch.from_numpy(images), torch.from_numpy(labels)
        num_classes, source = load_space("toy_street").num_classes, "toy_street"
    else:
        store = open_store(sizes.store)
        shape = (ASPECT * sizes.height, sizes.height)
        require((store.width, store.height) == shape, "store", sizes.store, f"of {shape[1]}x{shape[0]}", "prepare one")
        found = spread_pairs(store["train"], num)
        num_classes, source = store.label_space.num_classes, store.name
    return Pairs(*(part.to(device) for part in found), num_classes, source)


def spade_networks(sizes: Sizes, pairs: Pairs, form: Form, device):
    upsamplings = UPSAMPLINGS[sizes.upsampling]
    generator = SPADEGenerator(
        pairs.num_classes,
        sizes.height,
        ASPECT * sizes.height,
        sizes.ngf,
        upsamplings,
        sizes.hidden,
        plain=form.plain,
        neighbourhoods_on=sizes.neighbourhoods_on.split(","),
    )
    discriminator = MultiscaleDiscriminator(pairs.num_classes + 3, sizes.ndf)
    return form.place(generator, device), form.place(discriminator, device)


def layout_networks(sizes: Sizes, height: int, pairs: Pairs, form: Form, device):
    shared = dict(aspect=ASPECT, max_resolution=height, fmap_base=sizes.fmap_base, fmap_max=sizes.fmap_max)
    generator = LayoutGenerator(pairs.num_classes, **shared, plain=form.plain)
    discriminator = ProgressiveDiscriminator(pairs.num_classes, **shared)
    return form.place(generator, device), form.place(discriminator, device)


def inference(sizes: Sizes, pairs: Pairs, form: Form, device) -> Callable:
    generator = spade_networks(sizes, pairs, form, device)[0].eval()
    precision = autocast(form.precision, device)

    @torch.no_grad()
    def step(i):
        with precision:
            return generator(pairs.batch(i, sizes.batch_size)[1])

    return step


def stage_1(sizes: Sizes, pairs: Pairs, form: Form, device) -> Callable:
    generator, discriminator = layout_networks(sizes, sizes.layout_height, pairs, form, device)
    optimizers = [adam(network.parameters(), 0.99) for network in (generator, discriminator)]
    precision = autocast(form.precision, device)
    domain = SimpleNamespace(sample=form.sample, statistics=lambda output: {})  # all that the terms need of it
    at = sizes.layout_height, 1.0
    penalty_every = 1 if form.plain else sizes.penalty_every

    def step(i):
        labels = pairs.batch(i, sizes.layout_batch_size)[1]
        real = one_hot(resize(labels, at[0], ASPECT * at[0]), pairs.num_classes)
        z = torch.randn(2, len(real), generator.latent_dim, device=device)
        noise = discretize.exponential_noise(real.shape, device)
        mix = torch.rand(len(real), device=device)
        kept = form.kept(sizes)

        def of_generator():
            return layout_stage.generator_terms(generator, discriminator, domain, z[0], noise, *at, kept=kept)

        def of_discriminator():
            batch = real, z[1], noise, mix
            when = dict(step=i + 1, penalty_every=penalty_every)
            fake = kept[0] if kept else None
            return layout_stage.discriminator_terms(
                generator, discriminator, domain, *batch, *at, 10.0, fake=fake, **when
            )

        with form.frozen(discriminator):
            losses = descend(of_generator, WHOLE, optimizers[0], kind="generator/", autocast=precision)
        return losses | descend(of_discriminator, WHOLE, optimizers[1], kind="discriminator/", autocast=precision)

    return step


def stage_2(sizes: Sizes, pairs: Pairs, form: Form, device) -> Callable:
    generator, discriminator = spade_networks(sizes, pairs, form, device)
    optimizers = [adam(network.parameters(), 0.9, 1e-4) for network in (generator, discriminator)]
    precision = autocast(form.precision, device)

    def step(i):
        images, labels = pairs.batch(i, sizes.batch_size)
        batch = generator, discriminator, labels, form.images(images)
        kept = form.kept(sizes)
        with form.frozen(discriminator):
            terms = partial(image_losses.generator_losses, *batch, image_losses.Weights(), kept=kept)
            losses = descend(terms, WHOLE, optimizers[0], kind="generator/", autocast=precision)
        terms = partial(image_losses.discriminator_losses, *batch, fake=kept[0] if kept else None)
        return losses | descend(terms, WHOLE, optimizers[1], kind="discriminator/", autocast=precision)

    return step


class Guided(nn.Module):
    """A layout generator whose scores are moved so far towards given layouts that these are what is sampled.

    A generator that has not been trained draws noise, and noise has no repeating neighbourhoods. The work is the same.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator, self.labels = generator, None  # uint8 [N,1,H,W]
        self.latent_dim, self.arguments = generator.latent_dim, generator.arguments

    def shares_of(self, z):
        return self.generator.shares_of(z)

    def forward(self, z):
        scores = self.generator(z)
        return scores + 30 * one_hot(resize(self.labels, *scores.shape[-2:]), scores.shape[1])


def stage_3(sizes: Sizes, pairs: Pairs, form: Form, device) -> Callable:
    layout_generator, layout_discriminator = layout_networks(sizes, sizes.joint_layout_height, pairs, form, device)
    d2 = form.place(MultiscaleDiscriminator(3, sizes.ndf), device)
    guided = Guided(layout_generator)
    networks = joint_stage.Networks(
        guided, layout_discriminator, *spade_networks(sizes, pairs, form, device), d2, encoder=None, vgg=None
    )
    config = FinetuneSettings(store="", name="", layout_name="", spade_name="", layout_grad="stem")
    if not form.plain:
        config = replace(config, penalty_every=sizes.penalty_every)
    joint_stage.set_modes(networks, config)
    optimizers = joint_stage.make_optimizers(networks, config)
    generators = [optimizers[name][0] for name in ("layout_generator", "spade_generator")]
    discriminators = [name for name in optimizers if "discriminator" in name]
    precision = autocast(form.precision, device)

    def step(i):
        images, labels = pairs.batch(i, sizes.batch_size)
        guided.labels = pairs.batch(i + 1, sizes.batch_size)[1]
        batch = [(1.0, (labels, form.images(images), joint_stage.draw_noise(networks, len(images), device)))]
        kept = form.kept(sizes)
        with form.frozen(*(getattr(networks, name) for name in discriminators)):
            terms = partial(joint_stage.generator_terms, networks, config, kept=kept)
            losses = descend(terms, batch, *generators, kind="generator/", autocast=precision)
        ready = kept[0] if kept else None
        terms = partial(joint_stage.discriminator_terms, networks, config, ready=ready, step=i + 1)
        of_discriminators = [optimizers[name][0] for name in discriminators]
        return losses | descend(terms, batch, *of_discriminators, kind="discriminator/", autocast=precision)

    return step


CASES = {"inference": inference, "stage_1": stage_1, "stage_2": stage_2, "stage_3": stage_3}
