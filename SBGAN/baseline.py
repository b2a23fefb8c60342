"""The paper's baseline, a ProGAN on RGB images: what the progressive loop has to know of images."""

from dataclasses import replace

import torch.nn.functional as F

from datasets.reader import Reader
from SBGAN.drawing.sample import draw_images
from SBGAN.drawing.sheets import images_sheet
from SBGAN.layout_stage import Domain
from SBGAN.stages import IMAGE_GAN
from SPADE.engine.device import to_device
from SPADE.engine.distributed import rank, world_size
from SPADE.engine.images import from_uint8
from SPADE.evaluation.record import flat_scores, record_in_training
from SPADE.evaluation.scores import against_reference, draw_from_noise


def image_domain(config, store, device, evaluation) -> Domain:
    """RGB images in [-1,1] for the progressive loop; real ones are averaged over blocks down to its resolution.

    evaluation: at the finest resolution.
    """
    reader = Reader(store["train"], config.seed, rank(), world_size())

    def real(images_seen, batch_size, resolution):
        images, _ = reader.pairs(images_seen, batch_size)
        images = from_uint8(to_device(images, device))
        return F.adaptive_avg_pool2d(images, (resolution, resolution * store.aspect))

    def evaluate(generator, resolution, alpha, images_seen):
        if resolution < 16 or store.height % resolution:  # the smallest level of SWD; the reader averages whole blocks
            return {}
        here = evaluation
        if resolution < evaluation.height:  # which the feature network may not take
            here = replace(evaluation, height=resolution, network=None)
        samples = draw_from_noise(lambda seeds: {"images": draw_images(generator, seeds, resolution, alpha)}, here)
        row = against_reference(samples, here)
        record_in_training({"generated": row}, images_seen, config, evaluation, resolution=resolution, alpha=alpha)
        return flat_scores(row)

    return Domain(
        IMAGE_GAN.name,
        IMAGE_GAN.prefix,
        real,
        noise=lambda num, resolution: None,
        sample=lambda images, noise: images,
        statistics=lambda images: {},
        pictures=images_sheet,
        evaluate=evaluate,
        class_axes={},
    )
