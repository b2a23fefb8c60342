r"""python -m SBGAN.train_segmenter: a segmentation network learns from real pairs, generated ones, or both.

Examples:
    python -m SBGAN.train_segmenter --store packed/camvid --name camvid_segmenter --enlarge 2 --steps 600 --batch_size 4
    python -m SBGAN.train_segmenter --store packed/camvid --name camvid_gain --generated weights/f/finetune_4.pt \
        --mix 0.5 --share 0.25
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from datasets.errors import exit_on_user_error
from datasets.packed import numbers_of_share, open_store, share_of
from SBGAN import model as models
from SBGAN.model import FINETUNE, LAYOUT_GAN, SEGMENTER
from SBGAN.pairs import Mixture, from_model, from_split, open_folder
from SPADE.engine import config as settings
from SPADE.engine import loop
from SPADE.engine.checkpoint import check_store, data_record
from SPADE.engine.compilation import check_compiler
from SPADE.engine.config import RunSettings, check_batch, harmless, require, setting
from SPADE.engine.device import evaluating, pick, place, seed_everything, to_device
from SPADE.engine.distributed import join_processes, launched_processes, rank
from SPADE.engine.images import colour_layouts, sheet, spread_pairs
from SPADE.engine.run_folder import RunFolder
from SPADE.engine.state import TrainingState, averaged_copy
from SPADE.engine.step import Step, every, micro_batches
from SPADE.evaluation.metrics import Evaluation, held_out_split, score_real_pairs
from SPADE.evaluation.scores import flat_scores, record_in_training
from SPADE.segmenter import ARCHITECTURES, SegmentationNetwork, segmenter_of

POWER = 0.9  # of the falling learning rate, "poly" (Chen et al., DeepLab, 2017)
COUNTED = 500  # layouts, at most, that the classes' shares are counted in


@dataclass(frozen=True, kw_only=True)
class SegmenterSettings(RunSettings):
    pairs: str | None = setting(None, "folder that SBGAN.generate wrote: generated pairs to learn from")
    generated: str | None = setting(None, "checkpoint of stage 3 that they are drawn from instead, each one once")
    spade_checkpoint: str | None = setting(None, "where that is one of stage 1: SPADE's of stage 2")
    mix: float | None = setting(
        None, "share of generated pairs in each batch; 1: these alone; default 0.5 where there are some",
        at_least=0, at_most=1,
    )  # fmt: skip
    share: float = setting(
        1.0, "of the store's training pairs, evenly spread; the others are not used", above=0, at_most=1
    )

    network: str = setting("lraspp_mobilenet_v3_large", "of torchvision", choices=tuple(ARCHITECTURES))
    enlarge: int = setting(1, "factor of images before the network: 2 for 64 rows, whose classes it would not resolve",
                           at_least=1, at_most=8)  # fmt: skip
    backbone_weights: str | None = setting(
        None, "file of torchvision's weights of its backbone; default: none, at random"
    )

    steps: int = setting(20_000, "of the optimiser", at_least=1)
    batch_size: int = setting(16, "over all processes", at_least=1)
    lr: float = setting(1e-3, "AdamW; falls to 0 with the power 0.9 of the steps that are left", above=0)
    weight_decay: float = setting(1e-2, "of AdamW", at_least=0)
    balance: float = setting(0.5, "a class weighs as its share of pixels to the power of minus this; 0: all alike",
                             at_least=0, at_most=1)  # fmt: skip
    zoom: float = setting(2.0, "random crops, enlarged by 1 up to this factor; 1: none", at_least=1, at_most=8)
    jitter: float = setting(
        0.25, "brightness, contrast and saturation change by up to this share", at_least=0, at_most=1
    )

    save_every: int = harmless(5000, "steps between checkpoints; 0: only the last, which is always saved", at_least=0)
    evaluate_every: int = harmless(1000, "steps between scores; 0: only the last", at_least=0)
    num_eval: int = harmless(500, "test pairs of a score", at_least=1)


def generated_share(config: SegmenterSettings) -> float:
    """The share of generated pairs in each batch."""
    if config.mix is not None:
        return config.mix
    return 0.0 if config.pairs is None and config.generated is None else 0.5


def check(config: SegmenterSettings, store):
    """Refuses what cannot work, before anything is built. Raises UserError."""
    given = [flag for flag in ("pairs", "generated") if getattr(config, flag) is not None]
    require(len(given) < 2, "pairs", "given with --generated", "given alone", "leave one of them out")
    require(given or not config.mix, "mix", config.mix, "0 without generated pairs", "add --pairs or --generated")
    require(not given or config.mix != 0, "mix", 0, "above 0 beside --pairs or --generated", "leave those out")
    require(config.generated or not config.spade_checkpoint, "spade_checkpoint", "given", "given with --generated",
            "add that, a checkpoint of stage 1")  # fmt: skip
    some_real = generated_share(config) < 1
    require(some_real or config.share == 1, "share", config.share, "left out where --mix is 1",
            "no real pair is used there")  # fmt: skip
    split = share_of(store["train"], config.share)
    check_batch(config.batch_size, config, len(split) if some_real else config.batch_size)
    own = config.batch_size // launched_processes()
    part = min(config.micro_batch or own, own)
    fits = not config.network.startswith("deeplab") or (own % part or part) > 1
    require(fits, "batch_size", config.batch_size, "cut by processes and --micro_batch into parts of two or more",
            f"take another for {config.network}, which normalises one value of each image")  # fmt: skip


def generated_pairs(config: SegmenterSettings, store, batch: int, device):
    """(draws of generated pairs or None, what the checkpoint says of where they come from)."""
    if config.pairs is not None:
        folder = open_folder(config.pairs, store)
        require(batch <= len(folder), "pairs", f"{config.pairs} with {len(folder)} pairs", f"at least {batch}, a batch",
                "generate more")  # fmt: skip
        return from_split(folder, config.seed), folder.digest
    if config.generated is None:
        return None, None
    files = models.read(Path(config.generated), config.spade_checkpoint and Path(config.spade_checkpoint))
    stage = files[0].stage
    whole = stage == FINETUNE.name or (stage == LAYOUT_GAN.name and len(files) == 2)
    require(whole, "generated", f"{config.generated} of stage {stage}", "one that draws pairs",
            "take one of stage 3, or of stage 1 with --spade_checkpoint")  # fmt: skip
    check_store(files[-1].content["data"], files[-1].path, store, config.store)
    model = models.assemble(files, device)
    return from_model(model, config.seed, store.height, store.width), " ".join(file.sha256 for file in files)


def class_weights(split, space, power: float) -> torch.Tensor:
    """Weight of each class, float [256]: its share of pixels to the power of -power, 1 in the mean over pixels; unknown
    and what is no class weigh nothing."""
    picks = numbers_of_share(len(split), min(1, COUNTED / len(split)))
    counts = sum(np.bincount(split.layout(i).ravel(), minlength=256) for i in picks).astype(np.float64)
    counts[list(space.unknown)] = 0
    require(counts.sum() > 0, "store", "one whose training labels are all unknown", "one with classes", "mend it")
    shares = counts / counts.sum()
    weights = np.maximum(shares, 1e-4) ** -power  # a class that is nowhere weighs as one that 1 of 10000 pixels has
    weights[space.num_classes :] = weights[list(space.unknown)] = 0
    return torch.from_numpy((weights / (weights * shares).sum()).astype(np.float32))


def augmented(images, labels, zoom: float, jitter: float):
    """Crops of both, enlarged alike, then other colours: float [N,3,H,W] in 0..255, uint8 [N,1,H,W]."""
    n, device = len(images), images.device
    if zoom > 1:
        scale = 1 / (1 + (zoom - 1) * torch.rand(n, device=device))  # of the crop's sides
        shift = (1 - scale[:, None]) * (2 * torch.rand(n, 2, device=device) - 1)
        maps = torch.cat([torch.diag_embed(scale[:, None].expand(n, 2)), shift[:, :, None]], 2)  # [N,2,3]
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        labels = F.grid_sample(labels.float(), grid, "nearest", "border", align_corners=False).to(torch.uint8)
    if jitter:
        brightness, contrast, saturation = 1 + jitter * (2 * torch.rand(3, n, 1, 1, 1, device=device) - 1)
        images = images * brightness
        images = torch.lerp(images.mean((1, 2, 3), keepdim=True), images, contrast)
        images = torch.lerp(images.mean(1, keepdim=True), images, saturation).clamp(0, 255)
    return images, labels


def plan(images_seen: int, config: SegmenterSettings) -> Step:
    """The step at a falling rate, and what is due after it."""
    number, total = images_seen // config.batch_size + 1, config.steps
    rate, last = config.lr * (1 - (number - 1) / total) ** POWER, number == total
    return Step(
        images_seen=images_seen,
        batch_size=config.batch_size,
        number=number,
        rates={"segmenter": rate},
        averaged=images_seen + config.batch_size,
        where=f"step {number}",
        curves={"learning_rate": rate},
        saved={"step": number},
        pictures=last or number == 1,
        scores=last or every(config.evaluate_every, number),
        checkpoint=number if last or every(config.save_every, number) else None,
    )


def run(config: SegmenterSettings) -> Path:
    # --- Data; what can be refused is refused before anything is built ---
    store = open_store(config.store)
    check(config, store)
    split = share_of(store["train"], config.share)
    device = join_processes(pick(config.device))
    check_compiler(config.compile, device)
    generated, origin = generated_pairs(config, store, config.batch_size, device)
    pairs = Mixture(from_split(split, config.seed), generated, generated_share(config))
    folder = RunFolder(config, SEGMENTER.prefix, SEGMENTER.name)
    folder.begin(config, data_record(store) | ({"generated_pairs": origin} if origin else {}))
    weights = class_weights(split, store.label_space, config.balance).to(device)

    # --- Network, optimiser ---
    seed_everything(config.seed)
    network = SegmentationNetwork(store.label_space.num_classes, config.network, config.enlarge)
    if config.backbone_weights:
        network.load_backbone(config.backbone_weights)
    network = place(network, device)
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay, fused=True)
    averages = {"segmenter": averaged_copy(network)} if config.ema else {}
    state = TrainingState({"segmenter": network}, {"segmenter": optimizer}, averages)

    # --- One step ---
    def terms(images, labels):
        loss = F.cross_entropy(network(images), labels[:, 0].clamp(max=network.num_classes - 1), reduction="none")
        return {"cross_entropy": (loss * weights[labels[:, 0]]).mean()}

    def update(step, descend):
        images, labels = pairs.pairs(step.images_seen, step.batch_size)  # uint8 [n,3,H,W], [n,1,H,W]
        images, labels = to_device(images, device).float(), to_device(labels, device)
        images, labels = augmented(images, labels, config.zoom, config.jitter)
        return descend(terms, micro_batches(config.micro_batch, images, labels.long()), optimizer)

    # --- Scores and pictures of the test split ---
    def evaluation():
        found = segmenter_of(state.shown("segmenter"), store.label_space, config.name, "in training")
        return Evaluation(store, device, config.num_eval, segmenter=found)

    def evaluate(step):
        with evaluating(state.shown("segmenter")):
            now = evaluation()
            row = score_real_pairs(now)
        record_in_training({f"real pairs of {held_out_split(store)}": row}, state.images_seen, config, now)
        return flat_scores(row, "score/")

    def pictures(step):
        images, labels = spread_pairs(store[held_out_split(store)], 8)
        with evaluating(state.shown("segmenter")):
            predicted = evaluation().segmenter.predict(images, device)
        colours = torch.from_numpy(store.label_space.colours)
        return {
            "image_label_predicted": sheet([images, *(colour_layouts(ids, colours) for ids in (labels, predicted))])
        }

    training = loop.Training(
        total=config.steps * config.batch_size,
        state=state,
        schedule=lambda images_seen: plan(images_seen, config),
        update=update,
        pictures=pictures,
        evaluate=evaluate,
    )
    return loop.train(config, folder, training, device)


@exit_on_user_error
def main(arguments=None):
    path = run(settings.parse(SegmenterSettings, arguments, "SBGAN.train_segmenter", __doc__))
    if rank() == 0:
        print(f"segmenter saved to {path}")


if __name__ == "__main__":
    main()
