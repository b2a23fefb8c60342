"""Stage 3: the layout generator and SPADE trained together; the image's gradient reaches the layout generator.

Azadi et al. 2019, section 3.3. An unconditional image discriminator, D2, judges images of generated layouts.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.labels import one_hot
from datasets.reader import Reader
from SBGAN import discretize
from SBGAN.losses import gradient_penalty, wasserstein_discriminator, wasserstein_generator
from SPADE import objectives
from SPADE.engine.determinism import deterministic
from SPADE.engine.device import seed_step
from SPADE.engine.distributed import broadcast, rank, world_size
from SPADE.engine.ema import averaged_copy
from SPADE.engine.guard import Guard
from SPADE.engine.images import from_uint8
from SPADE.engine.log import Progress, RunLog
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState
from SPADE.engine.step import descend, ended, every, frozen, linear_decay, set_learning_rate
from SPADE.engine.stopping import stop_requests
from SPADE.engine.watch import together
from SPADE.losses import hinge_discriminator_fake, hinge_discriminator_real, hinge_generator
from SPADE.networks import discriminate

STAGE, PREFIX = "finetune", "finetune"


@dataclass(frozen=True)
class Networks:
    layout_generator: torch.nn.Module
    layout_discriminator: torch.nn.Module
    spade_generator: torch.nn.Module
    image_discriminator: torch.nn.Module  # conditional, from stage 2
    image_discriminator_2: torch.nn.Module  # D2: sees the image alone
    encoder: torch.nn.Module | None = None
    vgg: torch.nn.Module | None = None  # perceptual features; never trained, never saved

    def saved(self) -> dict:
        return {k: v for k, v in vars(self).items() if v is not None and k != "vgg"}

    def drawing(self) -> dict:
        """Those that learn and that a sample is made with."""
        learning = {k: v for k, v in self.saved().items() if next(v.parameters()).requires_grad}
        return {k: v for k, v in learning.items() if "discriminator" not in k}


def sample_layouts(layout_generator, z, config, exponential=None):
    """z [N,latent_dim] -> one-hot layouts [N,C,h,w] with the straight-through gradient."""
    return discretize.straight_through(layout_generator(z), config.temperature, config.floor, exponential)


def images_of(spade_generator, layouts, layout_grad: str):
    """One-hot layouts [N,C,h,w] -> images [N,3,H,W].

    layout_grad "stem": the normalisations get hard labels, so the gradient enters the layout through SPADE's first
    convolution alone, as in the released system; "full": through every normalisation.
    """
    style = None
    if spade_generator.style_dim:
        style = torch.randn(len(layouts), spade_generator.style_dim, device=layouts.device)
    norm_semantics = layouts if layout_grad == "full" else discretize.argmax(layouts.detach())
    return spade_generator(layouts, norm_semantics, style)


def real_layouts(labels, like):
    """Full-size labels uint8 [N,1,H,W] -> one-hot [N,C,h,w], nearest samples at the size of the layouts `like`."""
    return one_hot(discretize.resize(labels, *like.shape[-2:]), like.shape[1])


def generator_terms(networks, z, labels, images, config, exponential=None) -> dict:
    """Weighted losses of both generators; the order of SPADE's passes is that of the released system."""
    n, terms = networks, {}
    layouts = sample_layouts(n.layout_generator, z, config, exponential)  # [N,C,h,w]
    if config.train_layout:
        terms["layout_wgan"] = config.lambda_pgan * wasserstein_generator(n.layout_discriminator(layouts))
    fake = images_of(n.spade_generator, layouts, config.layout_grad)  # [N,3,H,W]
    of_fake, _ = discriminate(n.image_discriminator_2, fake, images)
    terms["gan_generated"] = config.lambda_D2 * hinge_generator(of_fake)
    if config.train_spade:
        weights = objectives.Weights(config.lambda_feat, config.lambda_vgg, config.lambda_kld)
        on_real = objectives.generator_losses(
            n.spade_generator, n.image_discriminator, labels, images, weights, n.encoder, n.vgg
        )
        terms |= {f"{name}_real_layout": value for name, value in on_real.items()}
    return terms


def discriminator_terms(networks, z, labels, images, config, exponential=None, mix=None) -> dict:
    """Weighted losses of the three discriminators, on layouts and images drawn anew."""
    n, terms = networks, {}
    with torch.no_grad():
        layouts = sample_layouts(n.layout_generator, z, config, exponential)
    if config.train_layout:
        real = real_layouts(labels, layouts)
        wgan = wasserstein_discriminator(n.layout_discriminator(real), n.layout_discriminator(layouts))
        penalty = gradient_penalty(n.layout_discriminator, real, layouts, mix)
        terms["layout_wgan"] = config.lambda_pgan * wgan
        terms["layout_gradient_penalty"] = config.lambda_pgan * config.penalty_weight * penalty
    if config.train_spade:
        on_real = objectives.discriminator_losses(
            n.spade_generator, n.image_discriminator, labels, images, n.encoder
        )
        terms |= {f"{name}_real_layout": value for name, value in on_real.items()}
    for name, value in second_discriminator_terms(n, layouts, images).items():
        terms[name] = config.lambda_D2 * value
    return terms


def second_discriminator_terms(networks, layouts, images) -> dict:
    """Hinge losses of D2 on SPADE's images of given layouts (one-hot [N,C,h,w]) against real images, unweighted."""
    with torch.no_grad():
        fake = images_of(networks.spade_generator, layouts, "stem")
    of_fake, of_real = discriminate(networks.image_discriminator_2, fake, images)
    return {"fake_generated": hinge_discriminator_fake(of_fake), "real_generated": hinge_discriminator_real(of_real)}


def pretraining_terms(networks, z, images) -> dict:
    """D2 alone, before anything else learns: on arg-max layouts."""
    with torch.no_grad():
        scores = networks.layout_generator(z)
        layouts = one_hot(discretize.argmax(scores), scores.shape[1])
    return second_discriminator_terms(networks, layouts, images)


def set_modes(networks, config):
    """A network that does not learn runs in evaluation mode: its averages and spectral vectors stay as they are."""
    networks.layout_generator.train(config.train_layout)
    networks.spade_generator.train(config.train_spade)
    for name in ("spade_generator", "encoder", "image_discriminator"):
        network = getattr(networks, name)
        if network is not None:
            network.train(config.train_spade).requires_grad_(config.train_spade)
    for name in ("layout_generator", "layout_discriminator"):
        getattr(networks, name).train(config.train_layout).requires_grad_(config.train_layout)


def make_optimizers(networks, config) -> dict:
    """Name -> (Adam, learning rate, does it decay?)."""

    def adam(networks, beta2):
        parameters = [p for network in networks if network is not None for p in network.parameters()]
        return torch.optim.Adam(parameters, betas=(0.0, beta2))

    n, optimizers = networks, {}
    if config.train_layout:
        optimizers["layout_generator"] = adam([n.layout_generator], 0.99), config.lr_pgan, False
        optimizers["layout_discriminator"] = adam([n.layout_discriminator], 0.99), config.lr_pgan, False
    if config.train_spade:
        optimizers["spade_generator"] = adam([n.spade_generator, n.encoder], 0.9), config.lr / 2, True
        optimizers["image_discriminator"] = adam([n.image_discriminator], 0.9), config.lr * 2, True
    optimizers["image_discriminator_2"] = adam([n.image_discriminator_2], 0.99), config.lr, True
    return optimizers


def train(config, store, networks: Networks, folder: RunFolder, origin: dict, device, pictures, evaluate=None) -> Path:
    """Pretrains D2, then trains everything for niter + niter_decay epochs; returns the last checkpoint's path.

    config: FinetuneSettings; origin: the files that stages 1 and 2 left, written into the checkpoints;
    pictures: (layout generator, spade generator) -> uint8 [3,...]; evaluate: the same -> {score name: value}, or None.
    """
    # --- Optimisers ---
    n = networks
    set_modes(n, config)
    optimizers = make_optimizers(n, config)
    of_generators = [optimizers[k][0] for k in ("layout_generator", "spade_generator") if k in optimizers]
    of_discriminators = [entry[0] for k, entry in optimizers.items() if "discriminator" in k]
    discriminators = (n.layout_discriminator, n.image_discriminator, n.image_discriminator_2)

    # --- Where to begin ---
    epoch_images = store["train"].draws_per_epoch
    pretraining = config.pretrain_epochs * epoch_images
    total = pretraining + (config.niter + config.niter_decay) * epoch_images
    averages = {name: averaged_copy(network) for name, network in n.drawing().items()} if config.ema else {}
    state = TrainingState(n.saved(), {name: entry[0] for name, entry in optimizers.items()}, averages)
    if not folder.restore(state, total):
        return folder.last_good
    broadcast(*n.saved().values())
    reader = Reader(store["train"], config.seed, rank(), world_size())

    shown = state.shown("layout_generator"), state.shown("spade_generator")

    with (
        stop_requests() as stop,
        together(),
        deterministic(config.deterministic),
        RunLog(Path(config.logs) / config.name, state.images_seen) as log,
        Progress(PREFIX, total, state.images_seen) as progress,
    ):
        guard = Guard(n.saved().values(), state.skipped, stop, folder)
        while state.images_seen < total:
            # --- Schedule ---
            trained = state.images_seen - pretraining  # negative while D2 is trained alone
            factor = linear_decay(max(trained, 0), epoch_images, config.niter, config.niter_decay)
            for optimizer, rate, decays in optimizers.values():
                set_learning_rate(optimizer, rate * factor if decays else rate)

            # --- Data and noise ---
            seed_step(config.seed, state.images_seen, rank())
            images, labels = reader.pairs(state.images_seen, config.batch_size)
            labels, images = labels.to(device, non_blocking=True), from_uint8(images.to(device, non_blocking=True))
            z = torch.randn(2, len(images), n.layout_generator.latent_dim, device=device)

            # --- D2 alone, or generators, then discriminators ---
            if trained < 0:
                d2 = optimizers["image_discriminator_2"][0]
                losses = descend(pretraining_terms(n, z[0], images), d2, guard=guard, kind="discriminator/")
            else:
                with frozen(*discriminators):
                    terms = generator_terms(n, z[0], labels, images, config)
                    losses = descend(terms, *of_generators, guard=guard, kind="generator/")
                terms = discriminator_terms(n, z[1], labels, images, config)
                losses |= descend(terms, *of_discriminators, guard=guard, kind="discriminator/")

            # --- Count, average, log ---
            seen = state.images_seen = state.images_seen + config.batch_size
            before, trained = trained, seen - pretraining
            steps, epoch, last = seen // config.batch_size, max(trained, 0) // epoch_images, seen >= total
            if trained > 0:
                state.average(config.batch_size, trained, config.ema_images)
            progress.step(config.batch_size)
            if last or every(config.log_every, steps):
                phase = f"epoch {epoch}" if trained > 0 else "D2 alone"
                values = progress.show(f"{PREFIX} {store.height}x{store.width} {phase}", losses)
                rates = {f"learning_rate/{k}": entry[0].param_groups[0]["lr"] for k, entry in optimizers.items()}
                log.scalars(values | rates, seen)
                log.scalars({f"skipped/{name}": count for name, count in state.skipped.items()}, seen)
            if rank() == 0 and (last or steps == 1 or every(config.picture_every, steps)):
                log.picture("generated_and_real", pictures(*shown), seen)

            # --- Evaluation and checkpoint ---
            due = evaluate and trained > 0 and ended(before, trained, epoch_images, config.evaluate_every, last)
            if due and rank() == 0:
                log.scalars(evaluate(*shown), seen)
            scheduled = trained > 0 and ended(before, trained, epoch_images, config.save_every, last)
            if scheduled or stop.signal or every(config.resume_every, steps):
                log.flush()
                folder.save(state, number=epoch if scheduled else None, epoch=epoch, origin=origin)
            if stop.signal:
                stop.leave()
    return folder.last_good
