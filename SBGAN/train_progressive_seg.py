"""python -m SBGAN.train_progressive_seg: stage 1, the layout GAN.

Examples:
    python -m SBGAN.train_progressive_seg --store packed/camvid --name camvid_layout --max_dim 32 --epochs 8
    torchrun --nproc_per_node 4 -m -- SBGAN.train_progressive_seg --store packed/ade --name ade_layout --batch_size 36
"""

from pathlib import Path

from datasets.errors import exit_on_user_error
from datasets.packed import open_store
from SBGAN.layout_stage import layout_domain, make_phases, parse_by_resolution, train
from SBGAN.networks import LayoutGenerator, ProgressiveDiscriminator
from SBGAN.settings import LayoutSettings, check_layout
from SBGAN.shares import components_for, fitted
from SPADE.engine import config as settings
from SPADE.engine.checkpoint import data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.device import pick, place, seed_everything
from SPADE.engine.distributed import rank, start


def run(config: LayoutSettings) -> Path:
    store = open_store(config.store)
    batch_sizes = parse_by_resolution(config.batch_sizes, "batch_sizes")
    epochs_at = parse_by_resolution(config.epochs_at, "epochs_at")
    check_layout(config, store, batch_sizes, epochs_at)
    device = start(pick(config.device))
    check_compiler(config.compile, device)
    seed_everything(config.seed)

    shared = dict(
        aspect=store.aspect, max_resolution=config.max_dim, fmap_base=config.fmap_base, fmap_max=config.fmap_max
    )
    num_classes = store.label_space.num_classes
    told = dict(share_components=components_for(len(store["train"]))) if config.class_shares else {}
    generator = LayoutGenerator(
        num_classes, latent_dim=config.latent_dim, pixel_norm=config.pixel_norm, **told, **shared
    )
    if config.class_shares:
        fitted(generator.blocks[0].told, store["train"], config.max_dim)
    discriminator = ProgressiveDiscriminator(num_classes, minibatch_stats=config.minibatch_stats, **shared)
    epoch_images = store["train"].draws_per_epoch
    phases = make_phases(config.max_dim, epoch_images, config.epochs, config.batch_size, batch_sizes, epochs_at)
    networks = place(generator, device), place(discriminator, device)
    return train(config, phases, data_record(store), *networks, layout_domain(config, store, device), device)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(LayoutSettings, arguments, "SBGAN.train_progressive_seg", __doc__))
    if rank() == 0:
        print(f"layout GAN saved to {path}")


if __name__ == "__main__":
    main()
