"""Stage 3: the layout generator and SPADE trained together; the image's gradient reaches the layout generator.

Azadi et al. 2019, section 3.3. An unconditional image discriminator, D2, judges images of generated layouts.
Sections: the networks and the noise of a descent; layouts and their images; losses; what learns; the training.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from datasets.labels import one_hot
from datasets.reader import Reader
from SBGAN import discretize
from SBGAN import losses as layout_losses
from SPADE import augmentation
from SPADE import losses as image_losses
from SPADE.engine import loop
from SPADE.engine.device import Ahead
from SPADE.engine.distributed import rank, world_size
from SPADE.engine.images import from_uint8
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState, averaged_copy
from SPADE.engine.step import adam, frozen, in_epochs, micro_batches, unmoved
from SPADE.losses import hinge_discriminator_fake, hinge_discriminator_real, hinge_generator
from SPADE.modulation import resize
from SPADE.networks import SegmentationCritic, discriminate

# --- The networks, and the noise of a descent ---


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
        """The networks that a sample is made with, of those that learn: the ones that get averages."""
        learning = {k: v for k, v in self.saved().items() if next(v.parameters()).requires_grad}
        return {k: v for k, v in learning.items() if "discriminator" not in k}


def draw_noise(networks, num: int, device, kinds=()) -> dict:
    """Draws all random numbers of one descent, those on real pairs included; see `draw_noise` of SPADE/losses.py."""
    arguments, style_dim = networks.layout_generator.arguments, networks.spade_generator.style_dim
    h = arguments["max_resolution"]
    shape = num, arguments["out_channels"], h, h * arguments["aspect"]
    return {
        "z": torch.randn(num, networks.layout_generator.latent_dim, device=device),
        "exponential": discretize.exponential_noise(shape, device),  # of the layouts' sampler
        "mix": torch.rand(num, device=device),  # of the gradient penalty
        "style": torch.randn(num, style_dim, device=device) if style_dim else None,  # of generated layouts' images
    } | image_losses.draw_noise(networks.spade_generator, networks.image_discriminator, num, device, kinds)


def behind_augmentation(critic, noise, image_channels: int = 3):
    """The critic, which sees its input augmented by what was drawn for it; image_channels: 0 for layouts."""
    return augmentation.augmented(critic, noise.get("augmentation"), image_channels)


# --- Layouts, and their images ---


def sample_layouts(log_probabilities, noise, config):
    """[N,C,h,w] -> one-hot layouts [N,C,h,w] with the straight-through gradient."""
    return discretize.straight_through(log_probabilities, config.temperature, config.floor, noise["exponential"])


def layouts_to_draw(log_probabilities, sampled, config):
    """The one-hot layouts [N,C,h,w] whose images D2 sees: the samples (released), or each pixel's likeliest class.

    The latter are free of the samples' salt noise, and nearer to what is drawn from a trained model. Their gradient is
    that of the probabilities, too.
    """
    if config.drawn_layouts == "argmax":
        return discretize.HardSample.apply(log_probabilities, config.temperature)
    return sampled


def images_of(spade_generator, layouts, noise: dict, layout_grad: str):
    """One-hot layouts [N,C,h,w] -> images [N,3,H,W]; noise: has the styles and the offsets, if there are any.

    layout_grad "stem": the normalisations get hard labels, so the gradient enters the layout through SPADE's first
    convolution alone, as in the released system; "full": through every normalisation.
    """
    norm_semantics = layouts if layout_grad == "full" else discretize.argmax(layouts.detach())
    return spade_generator(layouts, norm_semantics, noise["style"], noise.get("offsets"))


def real_layouts(labels, like):
    """Full-size labels uint8 [N,1,H,W] -> one-hot [N,C,h,w], nearest samples at the size of the layouts `like`."""
    return one_hot(resize(labels, *like.shape[-2:]), like.shape[1])


# --- Losses, as {name: weighted term}; of D2 alone unweighted ---


def generator_terms(networks, config, labels, images, noise, kept=None, balance=None) -> dict:
    """Weighted losses of both generators; the order of SPADE's passes is that of the released system.

    labels uint8 [N,1,H,W], images float [N,3,H,W]: real pairs; noise: of `draw_noise`, where what options alone draw
    (offsets, augmentation, real_classes) may be left out; kept: a list that the layouts and images drawn here are
    appended to, for `discriminator_terms` to use again; balance: of `balance_for`.
    """
    n, terms, of_real_layouts = networks, {}, []
    soft = n.layout_generator(noise["z"])  # log-probabilities [N,C,h,w]
    layouts = sample_layouts(soft, noise, config)  # [N,C,h,w]
    if config.train_layout:
        critic = behind_augmentation(n.layout_discriminator, noise, image_channels=0)
        on_layouts = layout_losses.generator_losses(config.layout_loss, critic(layouts))
        shares = n.layout_generator.shares_of(noise["z"])  # told ones [N,C], or None
        if shares is not None:
            on_layouts |= layout_losses.told_losses(soft, shares, config.lambda_shares, config.lambda_entropy)
        terms |= {f"layout_{name}": config.lambda_pgan * value for name, value in on_layouts.items()}
    drawn = layouts_to_draw(soft, layouts, config)
    fake = images_of(n.spade_generator, drawn, noise, config.layout_grad)  # [N,3,H,W]
    of_fake, _ = discriminate(behind_augmentation(n.image_discriminator_2, noise), fake, images)
    terms["gan_generated"] = config.lambda_D2 * hinge_generator(of_fake)
    if config.train_spade:
        # SPADE sums the divergence over the batch, where all else is a mean.
        weights = image_losses.Weights(config.lambda_feat, config.lambda_vgg, config.lambda_kld * config.batch_size)
        critic = behind_augmentation(n.image_discriminator, noise)
        on_real = image_losses.generator_losses(
            n.spade_generator, critic, labels, images, weights, n.encoder, noise["encoder"], n.vgg, of_real_layouts,
            noise.get("offsets"), balance,
        )  # fmt: skip
        terms |= {f"{name}_real_layout": value for name, value in on_real.items()}
    if kept is not None:
        ready = {"layouts": layouts, "of_layouts": fake} | ({"of_real": of_real_layouts[0]} if of_real_layouts else {})
        kept.append({name: value.detach() for name, value in ready.items()})
    return terms


def discriminator_terms(networks, config, labels, images, noise, ready=None, step: int = 1, balance=None) -> dict:
    """Weighted losses of the three discriminators; arguments as of `generator_terms`.

    ready: what that kept; None: layouts and images are drawn anew. step: its number, from 1 on.
    """
    n, terms, ready = networks, {}, ready or {}
    layouts, drawn = ready.get("layouts"), None
    if layouts is None:
        with torch.no_grad():
            soft = n.layout_generator(noise["z"])
            layouts = sample_layouts(soft, noise, config)
            drawn = layouts_to_draw(soft, layouts, config)
    if config.train_layout:
        real = real_layouts(labels, layouts)
        critic = behind_augmentation(n.layout_discriminator, noise, image_channels=0)
        on_layouts = layout_losses.discriminator_losses(
            config.layout_loss, critic, real, layouts, noise["mix"], config.penalty_weight, step, config.penalty_every
        )
        terms |= {f"layout_{name}": config.lambda_pgan * value for name, value in on_layouts.items()}
    if config.train_spade:
        mix = noise.get("real_classes"), config.lambda_labelmix
        critic = behind_augmentation(n.image_discriminator, noise)
        on_real = image_losses.discriminator_losses(
            n.spade_generator, critic, labels, images, n.encoder, noise["encoder"], *mix, ready.get("of_real"),
            noise.get("offsets"), balance,
        )  # fmt: skip
        terms |= {f"{name}_real_layout": value for name, value in on_real.items()}
    for name, value in second_discriminator_terms(n, drawn, images, noise, ready.get("of_layouts")).items():
        terms[name] = config.lambda_D2 * value
    return terms


def second_discriminator_terms(networks, layouts, images, noise, fake=None) -> dict:
    """Unweighted hinge losses of D2: SPADE's images of given layouts (one-hot [N,C,h,w]) against real images.

    fake: the former, where they are drawn already; the layouts are not needed then.
    """
    if fake is None:
        with torch.no_grad():
            fake = images_of(networks.spade_generator, layouts, noise, "stem")
    critic = behind_augmentation(networks.image_discriminator_2, noise)
    of_fake, of_real = discriminate(critic, fake, images)
    return {"fake_generated": hinge_discriminator_fake(of_fake), "real_generated": hinge_discriminator_real(of_real)}


def pretraining_terms(networks, images, noise) -> dict:
    """Losses of D2 alone, before anything else learns: on images of arg-max layouts."""
    with torch.no_grad():
        scores = networks.layout_generator(noise["z"])
        layouts = one_hot(discretize.argmax(scores), scores.shape[1])
    return second_discriminator_terms(networks, layouts, images, noise)


# --- What learns, how fast, and what it goes on with ---


def set_modes(networks, config):
    """A network that does not learn runs in evaluation mode: its statistics and spectral vectors stay as they are."""
    for name in ("spade_generator", "encoder", "image_discriminator"):
        network = getattr(networks, name)
        if network is not None:
            network.train(config.train_spade).requires_grad_(config.train_spade)
    for name in ("layout_generator", "layout_discriminator"):
        getattr(networks, name).train(config.train_layout).requires_grad_(config.train_layout)


def make_optimizers(networks, config) -> dict:
    """Name -> (Adam, learning rate, does it decay?)."""

    def of(*networks):
        return [p for network in networks if network is not None for p in network.parameters()]

    n, optimizers = networks, {}
    if config.train_layout:
        optimizers["layout_generator"] = adam(of(n.layout_generator), 0.99), config.lr_pgan, False
        optimizers["layout_discriminator"] = adam(of(n.layout_discriminator), 0.99), config.lr_pgan, False
    if config.train_spade:
        beta2 = 0.999 if isinstance(n.image_discriminator, SegmentationCritic) else 0.9  # as in stage 2
        optimizers["spade_generator"] = adam(of(n.spade_generator, n.encoder), beta2), config.lr / 2, True
        optimizers["image_discriminator"] = adam(of(n.image_discriminator), beta2), config.lr * 2, True
    optimizers["image_discriminator_2"] = adam(of(n.image_discriminator_2), 0.99), config.lr, True
    return optimizers


INHERITED = {  # network of this stage -> what it is called in the stage that it comes from
    "layout_generator": ("layout", "generator"),
    "layout_discriminator": ("layout", "discriminator"),
    "spade_generator": ("spade", "generator"),
    "image_discriminator": ("spade", "discriminator"),
    "encoder": ("spade", "encoder"),
}


def inherit(state: TrainingState, stages: dict):
    """Goes on with the averages and the optimisers' moments of stages 1 and 2, so that this stage's first step follows
    upon their last ones; prints what they did not have. stages: {"layout", "spade": content of their checkpoint}."""
    anew = state.inherit({name: (there, stages[stage]) for name, (stage, there) in INHERITED.items()
                          if there in stages[stage]["networks"]})  # fmt: skip
    if anew and rank() == 0:
        print(f"not in the checkpoints of stages 1 and 2, and begun anew: {', '.join(anew)}", flush=True)


# --- The training ---


def train(
    config, store, networks: Networks, folder: RunFolder, origin: dict, device, pictures, score, stages=None
) -> Path:
    """Pretrains D2, then trains everything for niter + niter_decay epochs; returns the last checkpoint's path.

    config: FinetuneSettings; origin: the checkpoints of stages 1 and 2, whose names are written into this stage's;
    pictures: (layout generator, SPADE generator) -> uint8 [3,...]; score: (both generators, images seen) -> {score:
    value}; stages: see `inherit`, None where the run goes on from its own checkpoint.
    """
    # --- Networks, optimisers ---
    n = networks
    set_modes(n, config)
    discriminators = (n.layout_discriminator, n.image_discriminator, n.image_discriminator_2)
    optimizers, rates = {}, {}
    for name, (optimizer, rate, falls) in make_optimizers(n, config).items():
        optimizers[name], rates[name] = optimizer, (rate, falls)
    of_generators = [optimizers[name] for name in optimizers if "generator" in name]
    of_discriminators = [optimizers[name] for name in optimizers if "discriminator" in name]
    averages = {name: averaged_copy(network) for name, network in n.drawing().items() if config.ema}
    state = TrainingState(n.saved(), optimizers, averages)
    if stages:
        inherit(state, stages)

    # --- Schedule: D2 alone, then epochs ---
    epoch_images = store["train"].draws_per_epoch
    pretraining = config.pretrain_epochs * epoch_images  # images that D2 alone is trained on

    def schedule(images_seen):
        step = in_epochs(images_seen, config, epoch_images, rates, before=pretraining)
        where = step.where if step.averaged else "D2 alone"
        return replace(step, where=where, saved=step.saved | {"origin": origin})

    # --- One step ---
    read = Ahead(Reader(store["train"], config.seed, rank(), world_size()).pairs, device)
    kinds = augmentation.parse_kinds(config.augment)

    def d2_terms(images, noise):
        with unmoved(n.spade_generator):  # which is to begin where stage 2 ended, running statistics included
            return pretraining_terms(n, images, noise)

    def update(step, descend):
        # --- Data and noise: this process's n of the batch ---
        images, labels = read(step.images_seen, step.batch_size)  # uint8 [n,3,H,W], [n,1,H,W]
        images = from_uint8(images)  # in [-1,1]
        noise = draw_noise(n, len(images), device, kinds)

        # --- Before the first epoch: D2 alone ---
        if step.images_seen < pretraining:
            parts, d2 = micro_batches(config.micro_batch, images, noise), optimizers["image_discriminator_2"]
            return descend(d2_terms, parts, d2, kind="discriminator/")

        # --- Generators ---
        balance = image_losses.balance_for(n.image_discriminator, labels)
        with frozen(*discriminators):
            parts = micro_batches(config.micro_batch, labels, images, noise)
            kept = [] if config.reuse_fakes else None  # what they draw, part by part
            of_parts = partial(generator_terms, n, config, kept=kept, balance=balance)
            losses = descend(of_parts, parts, *of_generators, kind="generator/")

        # --- Discriminators, on layouts and images drawn anew unless those are to serve ---
        ready = {name: torch.cat([part[name] for part in kept]) for name in kept[0]} if kept else None
        noise = draw_noise(n, len(images), device, kinds)
        parts = micro_batches(config.micro_batch, labels, images, noise, ready)
        terms = partial(discriminator_terms, n, config, step=step.number, balance=balance)
        return losses | descend(terms, parts, *of_discriminators, kind="discriminator/")

    generators = state.shown("layout_generator"), state.shown("spade_generator")
    total = pretraining + (config.niter + config.niter_decay) * epoch_images
    training = loop.Training(
        total=total,
        state=state,
        schedule=schedule,
        update=update,
        pictures=lambda step: {"generated_and_real": pictures(*generators)},
        evaluate=lambda step: score(*generators, state.images_seen),
        heaviest=heaviest(config, pretraining, total),
    )
    return loop.train(config, folder, training, device)


def heaviest(config, pretraining: int, total: int) -> int:
    """Images seen before a step that takes as much memory as any: all train, and the layouts' penalty is due."""
    every = layout_losses.penalty_period(config.layout_loss, config.penalty_every)
    if config.train_layout and every > 1:
        period = every * config.batch_size
        due = -(-pretraining // period) * period
        if due < total:
            return due
    return pretraining
