"""python -m SBGAN.train_progressive_seg: stage 1, the layout GAN."""

from pathlib import Path

import torch

from datasets.errors import exit_on_user_error
from datasets.labels import one_hot
from datasets.packed import open_store
from datasets.reader import Reader
from SBGAN import discretize
from SBGAN.drawing.sample import generate_layouts
from SBGAN.evaluation.scenes import layout_rows, score_layouts
from SBGAN.losses import layout_entropy
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.progressive_loop import Domain, train
from SBGAN.schedule import make_phases, parse_by_resolution
from SBGAN.settings import ProgressiveSettings, check_progressive
from SPADE.engine import config as settings
from SPADE.engine.data import data_record
from SPADE.engine.device import pick, place, seed_everything, to_device
from SPADE.engine.distributed import from_first, rank, start, world_size
from SPADE.engine.images import colour_layouts, enlarge, square_sheet
from SPADE.evaluation.images import numbers, record_in_training

STAGE, PREFIX = "layout_gan", "layout"


def layout_domain(config, store, device) -> Domain:
    """Layouts for the progressive loop: one-hot real ones, straight-through samples of generated ones."""
    reader = Reader(store["train"], config.seed, rank(), world_size())
    colours = torch.from_numpy(store.label_space.colours)
    num_classes = store.label_space.num_classes

    def real(images_seen, batch_size, resolution):
        return one_hot(to_device(reader.layouts(images_seen, batch_size, resolution), device), num_classes)

    def noise(num, resolution):
        return discretize.exponential_noise((num, num_classes, resolution, resolution * store.aspect), device)

    def sample(log_probabilities, noise):
        return discretize.straight_through(log_probabilities, config.temperature, config.floor, noise)

    def statistics(log_probabilities):
        return {"layout_entropy": layout_entropy(log_probabilities)}

    def pictures(generator, resolution, alpha):
        layouts = generate_layouts(generator, range(32), device, resolution, alpha)
        height = max(64, resolution)
        return square_sheet(enlarge(colour_layouts(layouts, colours), height, height * store.aspect))

    def evaluate(generator, resolution, alpha, images_seen):
        rows = layout_rows(generator, config.num_eval, 0, device, resolution, alpha)
        row = from_first(lambda: score_layouts(rows["layouts"], store))
        more = {"resolution": resolution, "alpha": alpha}
        record_in_training({"generated": row}, images_seen, config, store, "there are no images", **more)
        return numbers(row)

    return Domain(STAGE, PREFIX, real, noise, sample, statistics, pictures, evaluate)


def run(config: ProgressiveSettings) -> Path:
    store = open_store(config.store)
    batch_sizes = parse_by_resolution(config.batch_sizes, "batch_sizes")
    epochs_at = parse_by_resolution(config.epochs_at, "epochs_at")
    check_progressive(config, store, batch_sizes, epochs_at)
    device = start(pick(config.device))
    seed_everything(config.seed)

    shared = dict(
        aspect=store.aspect, max_resolution=config.max_dim, fmap_base=config.fmap_base, fmap_max=config.fmap_max
    )
    num_classes = store.label_space.num_classes
    generator = LayoutGenerator(num_classes, latent_dim=config.latent_dim, pixel_norm=config.pixel_norm, **shared)
    discriminator = ProgressiveDiscriminator(num_classes, minibatch_stats=config.minibatch_stats, **shared)
    epoch_images = store["train"].draws_per_epoch
    phases = make_phases(config.max_dim, epoch_images, config.epochs, config.batch_size, batch_sizes, epochs_at)
    return train(
        config,
        phases,
        data_record(store),
        place(generator, device),
        place(discriminator, device),
        layout_domain(config, store, device),
        device,
    )


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(ProgressiveSettings, arguments, "SBGAN.train_progressive_seg"))
    if rank() == 0:
        print(f"layout GAN saved to {path}")


if __name__ == "__main__":
    main()
