"""The trainings, in one table: how their checkpoints are called, and which networks are in them."""

from collections.abc import Callable
from dataclasses import dataclass

from SBGAN.networks import ImageGenerator, LayoutGenerator, ProgressiveDiscriminator
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder, conditional_critic
from SPADE.segmenter import SegmentationNetwork


@dataclass(frozen=True)
class Stage:
    name: str  # in checkpoints and in records of scores
    prefix: str  # of the files, PREFIX_NUMBER.pt
    networks: dict[str, Callable]  # by their names in a checkpoint; not every checkpoint has all
    generator: str | None = None  # what a model, and stage 3, call its "generator"


LAYOUT_GAN = Stage(  # stage 1
    "layout_gan",
    "layout",
    {"generator": LayoutGenerator, "discriminator": ProgressiveDiscriminator},
    "layout_generator",
)
SPADE = Stage(  # stage 2
    "spade",
    "spade",
    {
        "generator": SPADEGenerator,
        "discriminator": conditional_critic,
        "discriminator_2": MultiscaleDiscriminator,  # of imported ones
        "encoder": StyleEncoder,
    },
    "spade_generator",
)
FINETUNE = Stage(  # stage 3
    "finetune",
    "finetune",
    {
        "layout_generator": LayoutGenerator,
        "layout_discriminator": ProgressiveDiscriminator,
        "spade_generator": SPADEGenerator,
        "image_discriminator": conditional_critic,  # from stage 2
        "image_discriminator_2": MultiscaleDiscriminator,  # D2: sees the image alone
        "encoder": StyleEncoder,
    },
)
IMAGE_GAN = Stage(  # the paper's baseline, a ProGAN on RGB images
    "image_gan",
    "image",
    {"generator": ImageGenerator, "discriminator": ProgressiveDiscriminator},
    "image_generator",
)
SEGMENTER = Stage("segmenter", "segmenter", {"segmenter": SegmentationNetwork})  # it judges, and generates nothing
STAGES = {stage.name: stage for stage in (FINETUNE, SPADE, LAYOUT_GAN, IMAGE_GAN)}
