"""The paper's baseline, a ProGAN on RGB images: what the progressive loop has to know of images, and its samples."""

import torch.nn.functional as F

from datasets.reader import Reader
from SBGAN.layout_stage import Domain
from SBGAN.networks import ImageGenerator
from SPADE.engine import checkpoint
from SPADE.engine.device import to_device
from SPADE.engine.distributed import rank, world_size
from SPADE.engine.evaluation import evaluating
from SPADE.engine.images import enlarge, from_uint8, square_sheet, to_uint8
from SPADE.evaluation.images import against_real, draw_rows, numbers, record_in_training
from SPADE.sampling import latents

STAGE, PREFIX = "image_gan", "image"


def image_domain(config, store, device, extractor=None, left_out=None) -> Domain:
    """RGB images in [-1,1] for the progressive loop; real ones are averaged over blocks down to its resolution."""
    reader = Reader(store["train"], config.seed, rank(), world_size())

    def real(images_seen, batch_size, resolution):
        images, _ = reader.pairs(images_seen, batch_size)
        images = from_uint8(to_device(images, device))
        return F.adaptive_avg_pool2d(images, (resolution, resolution * store.aspect))

    def pictures(generator, resolution, alpha):
        height = max(64, resolution)
        images = sample_images(generator, range(32), device, resolution, alpha)
        return square_sheet(enlarge(images, height, height * store.aspect))

    def evaluate(generator, resolution, alpha, images_seen):
        if resolution < 16 or store.height % resolution:  # the smallest level of SWD; the reader averages whole blocks
            return {}
        network = extractor if resolution == generator.max_resolution else None  # which may not take smaller images
        rows = image_rows(generator, config.num_eval, 0, device, network, resolution, alpha)
        row = against_real(rows, config.num_eval, store, device, network, left_out, resolution)
        more = {"resolution": resolution, "alpha": alpha}
        record_in_training({"generated": row}, images_seen, config, store, left_out, **more)
        return numbers(row)

    return Domain(
        STAGE,
        PREFIX,
        real,
        noise=lambda num, resolution: None,
        sample=lambda images, noise: images,
        statistics=lambda images: {},
        pictures=pictures,
        evaluate=evaluate,
    )


def sample_images(generator, seeds, device, resolution=None, alpha: float = 1.0):
    """One image for each seed, uint8 [N,3,h,w] on the CPU, as one batch."""
    with evaluating(generator):
        return to_uint8(generator(latents(seeds, generator.latent_dim, device), resolution, alpha)).cpu()


def image_rows(generator, num: int, seed: int, device, extractor, resolution=None, alpha: float = 1.0) -> dict | None:
    """{"images", "features"} from noise, as of `draw_rows`."""

    def draw(numbers):
        return {"images": sample_images(generator, [seed + i for i in numbers], device, resolution, alpha)}

    return draw_rows(draw, num, device, extractor)


def draws(generator, device):
    """Function of a seed: an image float [1,3,h,w] in about [-1,1]."""

    def draw(seed):
        with evaluating(generator):
            return generator(latents([seed], generator.latent_dim, device))

    return draw


def load_baseline(content: dict, device, averaged: bool = True) -> ImageGenerator:
    """The generator in a checkpoint of the baseline."""
    return checkpoint.rebuild(ImageGenerator, content["networks"]["generator"], device, averaged)
