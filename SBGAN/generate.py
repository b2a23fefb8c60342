"""python -m SBGAN.generate: images and layouts from a trained model, or images of given layouts.

Examples:
    python -m SBGAN.generate --checkpoint weights/camvid_finetune/finetune_4.pt --num 100 --out samples
    python -m SBGAN.generate --checkpoint weights/camvid_finetune/finetune_4.pt --shares 'car=0.1' --out cars
    python -m SBGAN.generate --checkpoint weights/camvid_finetune/finetune_4.pt --complete sketches --num 8 --out ideas
"""

import contextlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from datasets.errors import UserError, exit_on_user_error
from SBGAN.drawing import search
from SBGAN.drawing.files import (
    FORMATS,
    KINDS,
    Files,
    Writer,
    check_folder,
    first_raw_ids,
    read_layouts,
    read_sketches,
    read_style,
    replacing,
    save_animation,
    walk_frames,
    write_png,
)
from SBGAN.drawing.search import fits, parse_shares, parse_where, wished_shares
from SBGAN.model import Model, load, truncated
from SBGAN.pairs import DOUBTED, Trust, check_trust, open_trust, write_pairs
from SPADE.engine import config as settings
from SPADE.engine.config import require, setting
from SPADE.engine.device import keep_freed_memory, pick
from SPADE.engine.distributed import from_first, join_processes, rank, together, total, world_size
from SPADE.engine.images import colour_layouts, enlarge, sheet
from SPADE.modulation import resize
from SPADE.segmenter import SegmenterFile

ALONE = ("grid", "interpolate", "layouts", "complete", "invert", "shares")  # flags of which one is given at most


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(SegmenterFile):
    checkpoint: str = setting(help="of stage 3; or of stage 1, with --spade_checkpoint; or of stage 2, with --layouts")
    out: str = setting(help="folder for images, layouts (index: train id, palette: the classes' colours), colours and "
                       "raw_ids; new or empty")  # fmt: skip
    spade_checkpoint: str | None = setting(None, "with a checkpoint of stage 1: SPADE's of stage 2")
    num: int = setting(16, "samples", at_least=1)
    seed: int = setting(
        0, "sample i depends on the checkpoint and on seed + i alone; files are named by that sum", at_least=0
    )
    batch_size: int = setting(
        16,
        "samples drawn before their files go out; none depends on it, but by rounding what --shares "
        "and --complete search for",
        at_least=1,
    )
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    ema: bool = setting(True, "draw with the averages of the weights, if there are some (--no_ema: the last weights)")
    overwrite: bool = setting(False, "write into a folder that is not empty, replacing files of the same names")
    truncation: float = setting(
        1.0, "below 1: layouts nearer to the mean one, less varied; 0: one layout", at_least=0, at_most=1
    )
    where: str = setting(
        "",
        "keep only samples whose classes have such shares of the pixels: 'car>0.05,sky<=0.3' (names as in the "
        "label table, commas and all)",
        also=("--classes",),
    )
    grid: str | None = setting(None, "ROWSxCOLUMNS samples as one picture, layouts above images, instead of files")
    interpolate: int | None = setting(
        None, "a walk through that many samples and back, as an animated picture", at_least=2
    )
    frames: int = setting(30, "of that walk from one sample to the next", at_least=2)
    layouts: str | None = setting(None, "folder of label PNGs to render instead of generated layouts")
    complete: str | None = setting(
        None, "folder of label PNGs to complete where they are transparent or of index 255: --num layouts of each"
    )
    invert: str | None = setting(None, "folder of label PNGs: the layouts nearest to them that the generator draws")
    layout_kind: str = setting("train_ids", "what these say (colour pictures are read by their colours)", KINDS)
    nearest_class: bool = setting(False, "read colours that are no class as the nearest one; their pixels are counted")
    shares: str = setting("", "steer samples to such shares of the pixels: 'pedestrian=0.05,car=0.1'")
    steps: int = setting(search.STEPS, "of the search that --complete, --invert and --shares make", at_least=0)
    format: str = setting(
        "plain", "of the files: images, layouts, colours and raw_ids; Cityscapes' folders and names; or "
        "mmsegmentation's images and annotations", choices=tuple(FORMATS),
    )  # fmt: skip
    keep_aligned: float | None = setting(
        None, "keep only pairs of which the --segmenter sees that share of the pixels as the layout says",
        at_least=0, at_most=1,
    )  # fmt: skip
    keep_aligned_by: str = setting("pixel", "that share of all pixels, or of each class's", choices=("pixel", "class"))
    doubtful: str | None = setting(
        None, "what is written where the --segmenter finds the layout's class least likely (255 where the label table "
        "has no unknown class)", choices=("unknown",),
    )  # fmt: skip
    doubtful_share: float = setting(DOUBTED, "of each class's pixels that this is", at_least=0, at_most=1)
    style: str | None = setting(None, "image whose style all images get (models with a style encoder)")


def check(config):
    """Refuses what cannot work before anything is read. Raises UserError."""
    require(config.seed + count_seeds(config) <= 2**63, "seed", config.seed, "below 2^63 with all samples",
            "pass a smaller seed")  # fmt: skip
    chosen = [flag for flag in ALONE if getattr(config, flag)]
    require(len(chosen) <= 1, " and --".join(chosen), "given", "given alone", "take one of them")
    require(not (chosen and config.where), "where", config.where, f"left out beside --{' or --'.join(chosen)}",
            "it chooses among --num samples")  # fmt: skip
    given = next((flag for flag in ("layouts", "complete", "invert") if getattr(config, flag)), None)
    require(config.truncation == 1 or given is None, "truncation", config.truncation,
            f"left out beside --{given}", "what is drawn there is not from noise alone")  # fmt: skip
    check_trust(config)


def parse_grid(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,3})[xX]([1-9]\d{0,3})", text)
    require(found, "grid", text, "ROWSxCOLUMNS, such as 4x6", "write it so")
    return int(found[1]), int(found[2])


def count_seeds(config) -> int:
    if config.grid is not None:
        rows, columns = parse_grid(config.grid)
        return rows * columns
    return config.num if config.interpolate is None else config.interpolate


def batches(items, size: int):
    for i in range(0, len(items), size):
        yield items[i : i + size]


@contextlib.contextmanager
def output(config, model: Model, count: int):
    """The files of --out, and a progress bar of so many images."""
    with Writer() as writer, bar(count) as progress:
        yield Files(Path(config.out), model, writer, config.format), progress


def bar(total: int):
    return tqdm(total=total, desc="generate", unit="img", dynamic_ncols=True, disable=rank() > 0)


def generate_samples(model: Model, config, style, trust: Trust | None) -> int:
    """Writes the samples of this process; returns how many were kept."""
    terms = parse_where(config.where, model.label_space.names)
    seeds = range(config.seed + rank(), config.seed + config.num, world_size())
    kept = 0
    with truncated(model.layout_generator, config.truncation), output(config, model, len(seeds)) as (files, progress):
        for some in batches(seeds, config.batch_size):
            layouts = model.sample_layouts(some)
            chosen = fits(layouts, terms, model.label_space.num_classes).nonzero()[:, 0].tolist()
            names = [some[i] for i in chosen]
            images = model.render(layouts[chosen], names, style) if chosen else []
            kept += write_pairs(files, trust, [f"{name:08d}" for name in names], layouts[chosen], images)
            progress.update(len(some))
    return kept


def render_layouts(model: Model, config, style, given: dict, trust: Trust | None) -> int:
    """Writes this process's share of the given layouts and their images; returns how many were kept."""
    given = list(given.items())
    mine = sorted(range(len(given))[rank() :: world_size()], key=lambda i: given[i][1].shape)
    kept = 0
    with output(config, model, len(mine)) as (files, progress):
        for _, alike in itertools.groupby(mine, key=lambda i: given[i][1].shape):  # a batch has one size
            for some in batches(list(alike), config.batch_size):
                layouts = torch.cat([given[i][1] for i in some])
                images = model.render(layouts, [config.seed + i for i in some], style)
                kept += write_pairs(files, trust, [given[i][0] for i in some], layouts, images)
                progress.update(len(some))
    return kept


def steer_samples(model: Model, config, style) -> str:
    """Writes this process's share of samples with the class shares asked for; returns what was asked and got."""
    names, wished = model.label_space.names, parse_shares(config.shares, model.label_space.names)
    asked = wished_shares(wished, names)
    mine = list(batches(range(config.seed, config.seed + config.num), config.batch_size))[rank() :: world_size()]
    sums = torch.zeros(2, len(names), dtype=torch.float64)  # of shares, of their distances to what was asked
    count = sum(map(len, mine))
    with truncated(model.layout_generator, config.truncation), output(config, model, count) as (files, progress):
        for seeds in mine:
            layouts, got = model.shares(wished, len(seeds), seeds[0], config.steps)
            for seed, layout, image in zip(seeds, layouts, model.render(layouts, seeds, style), strict=True):
                files.write(f"{seed:08d}", layout, image)
            sums += torch.stack([got.sum(0), (got - asked).abs().sum(0)])
            progress.update(len(seeds))
    got, missed = (total(sums) / config.num).tolist()
    return "".join(
        f"{name}: asked for {wished[name]:.4f} of the pixels, got {got[i]:.4f}, missed by {missed[i]:.4f} (means)\n"
        for i, name in enumerate(names)
        if name in wished
    )


def complete_sketches(model: Model, config, style):
    """Writes this process's share of the completed sketches; prints how much of each the generator met by itself."""
    sketches = list(read_sketches(Path(config.complete), model, config.layout_kind, config.nearest_class).items())
    mine = sketches[rank() :: world_size()]
    with output(config, model, len(mine) * config.num) as (files, progress):
        for name, (layout, fixed) in mine:
            met = []
            for some in batches(range(config.seed, config.seed + config.num), config.batch_size):
                layouts, agreement = model.complete(layout, fixed, len(some), some[0], config.steps)
                for seed, completed, image in zip(some, layouts, model.render(layouts, some, style), strict=True):
                    files.write(f"{name}_{seed:08d}", completed, image)
                met += agreement.tolist()
                progress.update(len(some))
            tqdm.write(f"{name}: {sum(met) / len(met):.3f} of the fixed pixels met before pasting (mean of {len(met)})")


def invert_layouts(model: Model, config, style):
    """Writes the generator's nearest drawing of each layout in this process's share; prints how many pixels agree."""
    given = read_layouts(Path(config.invert), model, config.layout_kind, config.nearest_class)
    mine = list(given.items())[rank() :: world_size()]
    with output(config, model, len(mine)) as (files, progress):
        for name, layout in mine:
            drawn, agreement = model.invert(layout, config.seed, config.steps)
            files.write(name, drawn[0], model.render(drawn, [config.seed], style)[0])
            tqdm.write(f"{name}: {agreement.item():.3f} of the pixels come back")
            progress.update()


def grid_picture(model: Model, config, style):
    """Layouts above their images, row by row: uint8 [3,...]"""
    rows, columns = parse_grid(config.grid)
    colours = torch.from_numpy(model.label_space.colours)
    pictures = []
    with truncated(model.layout_generator, config.truncation), bar(rows * columns) as progress:
        for seeds in batches(range(config.seed, config.seed + rows * columns), columns):
            layouts = model.sample_layouts(seeds)
            pictures.append(enlarge(colour_layouts(layouts, colours), model.data["height"], model.data["width"]))
            pictures.append(model.render(layouts, seeds, style))
            progress.update(columns)
    return sheet(pictures)


def describe(config, model: Model):
    """Writes about.json: all that the files depend on."""
    about = {
        "checkpoints": {stage: file["sha256"] for stage, file in model.files.items()},
        "settings": settings.to_dict(config),
        "classes": list(model.label_space.names),
        "torch": torch.__version__,
    }
    with replacing(Path(config.out) / "about.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


def run(config: GenerationSettings):
    check(config)
    device = join_processes(pick(config.device))
    if device.type == "cpu":
        keep_freed_memory()
    from_first(check_folder, Path(config.out), config.overwrite)  # before any process writes into it
    with together():
        draw(config, load(config.checkpoint, config.spade_checkpoint, device, config.ema))


def check_model(config: GenerationSettings, model: Model):
    """Raises UserError where the model does not draw what the flags ask for."""
    if model.image_generator is not None:
        raise UserError(f"{config.checkpoint} is the RGB baseline's (image_gan), wanted one of scenes; take stage 3's")
    if config.layouts is None and model.layout_generator is None:
        raise UserError(f"{config.checkpoint} draws no layouts (stage 2); take one of stage 3, or pass --layouts")
    if model.spade_generator is None:
        raise UserError(f"{config.checkpoint} draws no images (stage 1); add --spade_checkpoint, one of stage 2")
    has_ids = config.format != "cityscapes" or first_raw_ids(model.label_space) is not None
    require(has_ids, "format", config.format, "plain or mmseg where classes have no raw ids", "take one of these")


def draw(config: GenerationSettings, model: Model):
    """Writes what the flags ask for, and prints how much that is, and where. Raises UserError."""
    check_model(config, model)
    style, out = read_style(Path(config.style), model) if config.style else None, Path(config.out)
    made = ""
    if config.grid is not None or config.interpolate is not None:
        if rank() == 0:  # one picture, one process
            draw_picture(config, model, style, out)
    elif config.complete is not None:
        complete_sketches(model, config, style)
    elif config.invert is not None:
        invert_layouts(model, config, style)
    elif config.shares:
        made = steer_samples(model, config, style)
    else:
        made = draw_pairs(config, model, style)
    if rank() == 0:
        describe(config, model)
        print(f"{made}written to {out}")


def draw_pairs(config, model: Model, style) -> str:
    """Writes samples, or images of given layouts; returns what is to be said of their number."""
    given, size = None, (model.data["height"], model.data["width"])
    if config.layouts is not None:
        given = read_layouts(Path(config.layouts), model, config.layout_kind, config.nearest_class)

    def some_pairs(num):
        """The first of the pairs that will be written: layouts of the images' size, and images."""
        seeds = range(config.seed, config.seed + num)
        if given is not None:
            layouts = torch.cat([resize(layout, *size) for layout in [*given.values()][:num]])
        else:
            with truncated(model.layout_generator, config.truncation):
                layouts = resize(model.sample_layouts(seeds), *size)
        return layouts, model.render(layouts, seeds[: len(layouts)], style)

    trust = open_trust(config, model, some_pairs)
    if given is not None:
        kept, count = render_layouts(model, config, style, given, trust), len(given)
    else:
        kept, count = generate_samples(model, config, style, trust), config.num
    kept = int(total(torch.tensor(kept)))
    filters = [f"--where {config.where}"] if config.where else []
    filters += [f"--keep_aligned {config.keep_aligned:g}"] if config.keep_aligned is not None else []
    if not kept:
        raise UserError(f"{' and '.join(filters)} fits none of {count} samples; ask for less, or draw more")
    if filters:
        return f"{kept} of {count} samples kept ({100 * kept / count:.0f} %), "
    return f"{kept} layouts rendered, " if given is not None else ""


def draw_picture(config, model: Model, style, out: Path):
    """Writes the grid or the walk."""
    if config.grid is not None:
        write_png(grid_picture(model, config, style).permute(1, 2, 0).contiguous().numpy(), out / "grid.png")
        return
    seeds = range(config.seed, config.seed + config.interpolate)
    with truncated(model.layout_generator, config.truncation):
        frames = walk_frames(model, seeds, config.frames, style)
        count = len(seeds) * config.frames
        save_animation(tqdm(frames, "walk", count, unit="frame", dynamic_ncols=True), out / "walk.webp")


@exit_on_user_error
def main(arguments=None):
    run(settings.parse(GenerationSettings, arguments, "SBGAN.generate", __doc__))


if __name__ == "__main__":
    main()
