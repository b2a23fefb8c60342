"""python -m SBGAN.train_progressive: the paper's baseline, a ProGAN on RGB images, trained as stage 1 is.

Examples:
    python -m SBGAN.train_progressive --store packed/camvid --name camvid_image --max_dim 64 --epochs 8
    python -m SBGAN.train_progressive --store packed/ade --name ade_image --max_dim 256 --batch_sizes 256:4 --no_fid
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch.nn.functional as F

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from datasets.reader import Reader
from SBGAN.layout_stage import SHOWN, Domain, train
from SBGAN.model import IMAGE_GAN, draw_images
from SBGAN.networks import ImageGenerator, ProgressiveDiscriminator
from SBGAN.train_progressive_seg import LayoutSettings, plan_phases, sizes
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.config import require
from SPADE.engine.device import Ahead, pick, place, seed_everything
from SPADE.engine.distributed import join_processes, rank, world_size
from SPADE.engine.images import from_uint8, square_sheet, visible
from SPADE.evaluation.features import ImageScores
from SPADE.evaluation.scores import against_reference, draw_from_noise, flat_scores, make_evaluation, record_in_training


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(ImageScores, LayoutSettings):
    """The RGB baseline's: stage 1's, and how its images are scored."""


def image_domain(config, store, device, evaluation) -> Domain:
    """RGB images in [-1,1] for the progressive loop; real ones are averaged over blocks down to its resolution.

    evaluation: at the finest resolution.
    """
    read = Ahead(Reader(store["train"], config.seed, rank(), world_size()).pairs, device)

    def real(images_seen, batch_size, resolution):
        images, _ = read(images_seen, batch_size)
        return F.adaptive_avg_pool2d(from_uint8(images), (resolution, resolution * store.aspect))

    def evaluate(generator, resolution, alpha, images_seen):
        if resolution < 16 or store.height % resolution:  # the smallest level of SWD; the reader averages whole blocks
            return {}
        here = evaluation
        if resolution < evaluation.height:  # which the feature network may not take
            why = "features are compared at the finest resolution alone"
            here = replace(evaluation, height=resolution, network=None, no_network=why)
        samples = draw_from_noise(lambda seeds: {"images": draw_images(generator, seeds, resolution, alpha)}, here)
        row = against_reference(samples, here)
        record_in_training({"generated": row}, images_seen, config, here, resolution=resolution, alpha=alpha)
        return flat_scores(row)

    return Domain(
        IMAGE_GAN.name,
        IMAGE_GAN.prefix,
        real,
        noise=lambda num, resolution: None,
        sample=lambda images, noise: images,
        image_channels=3,
        statistics=lambda images: {},
        pictures=pictures,
        evaluate=evaluate,
        class_axes={},
    )


def pictures(generator, resolution=None, alpha: float = 1.0, seed: int = 0):
    """Images from noise: uint8 [3,...]"""
    return square_sheet(visible(draw_images(generator, range(seed, seed + SHOWN), resolution, alpha)))


def check_sampler(config):
    """Images are not sampled from class scores, and have no class shares."""
    for flag in ("temperature", "floor", "class_shares", "lambda_shares", "lambda_entropy"):
        default, found = BaselineSettings.__dataclass_fields__[flag].default, getattr(config, flag)
        require(found == default, flag, found, f"{default} here", "leave it out: it belongs to layouts")


def run(config: BaselineSettings) -> Path:
    store = open_store(config.store)
    phases = plan_phases(config, store)
    check_sampler(config)
    device = join_processes(pick(config.device))
    check_compiler(config.compile, device)
    seed_everything(config.seed)
    shared = sizes(config, store)
    generator = ImageGenerator(3, latent_dim=config.latent_dim, pixel_norm=config.pixel_norm, **shared)
    discriminator = ProgressiveDiscriminator(3, minibatch_stats=config.minibatch_stats, **shared)
    networks = place(generator, device), place(discriminator, device)
    domain = image_domain(config, store, device, make_evaluation(config, store, device, config.max_dim))
    return train(config, phases, data_record(store), *networks, domain, device)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(BaselineSettings, arguments, "SBGAN.train_progressive", __doc__))
    if rank() == 0:
        print(f"RGB baseline saved to {path}")


if __name__ == "__main__":
    main()
