"""python -m SBGAN.train_progressive: the paper's baseline, a ProGAN on RGB images, trained as stage 1 is.

Examples:
    python -m SBGAN.train_progressive --store packed/camvid --name camvid_image --max_dim 64 --epochs 8
    python -m SBGAN.train_progressive --store packed/ade --name ade_image --max_dim 256 --batch_sizes 256:4 --no_fid
"""

from pathlib import Path

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from SBGAN.baseline import image_domain
from SBGAN.layout_stage import train
from SBGAN.networks import ImageGenerator, ProgressiveDiscriminator
from SBGAN.schedule import make_phases, parse_by_resolution
from SBGAN.settings import BaselineSettings, check_progressive
from SPADE.engine import config as settings
from SPADE.engine.config import require
from SPADE.engine.data import data_record
from SPADE.engine.device import pick, place, seed_everything
from SPADE.engine.distributed import rank, start
from SPADE.evaluation.scores import begin


def check_sampler(config):
    """Images are not sampled from class scores."""
    for flag in ("temperature", "floor"):
        default, found = BaselineSettings.__dataclass_fields__[flag].default, getattr(config, flag)
        require(found == default, flag, found, f"{default} here", "leave it out: it belongs to the sampler of layouts")


def run(config: BaselineSettings) -> Path:
    store = open_store(config.store)
    batch_sizes = parse_by_resolution(config.batch_sizes, "batch_sizes")
    epochs_at = parse_by_resolution(config.epochs_at, "epochs_at")
    check_progressive(config, store, batch_sizes, epochs_at)
    check_sampler(config)
    device = start(pick(config.device))
    seed_everything(config.seed)

    shared = dict(
        aspect=store.aspect, max_resolution=config.max_dim, fmap_base=config.fmap_base, fmap_max=config.fmap_max
    )
    generator = ImageGenerator(3, latent_dim=config.latent_dim, pixel_norm=config.pixel_norm, **shared)
    discriminator = ProgressiveDiscriminator(3, minibatch_stats=config.minibatch_stats, **shared)
    epoch_images = store["train"].draws_per_epoch
    phases = make_phases(config.max_dim, epoch_images, config.epochs, config.batch_size, batch_sizes, epochs_at)
    networks = place(generator, device), place(discriminator, device)
    domain = image_domain(config, store, device, begin(config, store, device, config.max_dim))
    return train(config, phases, data_record(store), *networks, domain, device)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(BaselineSettings, arguments, "SBGAN.train_progressive", __doc__))
    if rank() == 0:
        print(f"RGB baseline saved to {path}")


if __name__ == "__main__":
    main()
