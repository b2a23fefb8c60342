"""The trainings in one table; a trained model out of their checkpoints, and its samples: what is scored and drawn."""

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from datasets.errors import UserError
from datasets.labels import LabelSpace
from SBGAN.discretize import argmax, class_proportions, share_offsets
from SBGAN.drawing import search
from SBGAN.drawing.search import wished_shares
from SBGAN.networks import ImageGenerator, LayoutGenerator, ProgressiveDiscriminator
from SPADE.engine import checkpoint
from SPADE.engine.checkpoint import Checkpoint, check_label_space
from SPADE.engine.device import evaluating, pick
from SPADE.engine.images import closed_walk, in_batches, latents, render, to_uint8
from SPADE.networks import MultiscaleDiscriminator, SPADEGenerator, StyleEncoder, conditional_critic
from SPADE.segmenter import SegmentationNetwork

AT_ONCE = 16  # frames of a walk


# --- The trainings: how their checkpoints are called, and which networks are in them ---


@dataclass(frozen=True)
class Stage:
    name: str  # in checkpoints and in records of scores
    prefix: str  # of the files, PREFIX_NUMBER.pt
    networks: dict[str, Callable]  # by their names in a checkpoint; not every checkpoint has all
    generator: str | None = None  # what a model, and stage 3, call its "generator"


LAYOUT_GAN = Stage(  # stage 1
    "layout_gan",
    "layout",
    {"generator": LayoutGenerator, "discriminator": ProgressiveDiscriminator},
    "layout_generator",
)
SPADE_STAGE = Stage(  # stage 2
    "spade",
    "spade",
    {
        "generator": SPADEGenerator,
        "discriminator": conditional_critic,
        "discriminator_2": MultiscaleDiscriminator,  # of imported ones
        "encoder": StyleEncoder,
    },
    "spade_generator",
)
FINETUNE = Stage(  # stage 3
    "finetune",
    "finetune",
    {
        "layout_generator": LayoutGenerator,
        "layout_discriminator": ProgressiveDiscriminator,
        "spade_generator": SPADEGenerator,
        "image_discriminator": conditional_critic,  # from stage 2
        "image_discriminator_2": MultiscaleDiscriminator,  # D2: sees the image alone
        "encoder": StyleEncoder,
    },
)
IMAGE_GAN = Stage(  # the paper's baseline, a ProGAN on RGB images
    "image_gan",
    "image",
    {"generator": ImageGenerator, "discriminator": ProgressiveDiscriminator},
    "image_generator",
)
SEGMENTER = Stage("segmenter", "segmenter", {"segmenter": SegmentationNetwork})  # it judges, and generates nothing
STAGES = {stage.name: stage for stage in (FINETUNE, SPADE_STAGE, LAYOUT_GAN, IMAGE_GAN)}


# --- A model ---


@dataclass(frozen=True)
class Model:
    """The generators of a checkpoint, and what is known of their data. A model of one stage lacks some of them."""

    layout_generator: LayoutGenerator | None
    spade_generator: SPADEGenerator | None
    label_space: LabelSpace
    data: dict
    encoder: StyleEncoder | None = None
    image_generator: ImageGenerator | None = None  # of the RGB baseline, which has no other
    files: dict = field(default_factory=dict)  # stage -> what a record of scores says of its checkpoint

    @property
    def device(self):
        generator = self.layout_generator or self.spade_generator or self.image_generator
        return next(generator.parameters()).device

    @property
    def draws(self) -> bool:
        """Can it draw from noise?"""
        return self.layout_generator is not None or self.image_generator is not None

    @property
    def image_height(self) -> int | None:
        """Rows of its images; None for stage 1, which has none."""
        if self.image_generator is not None:
            return self.image_generator.max_resolution
        return self.data["height"] if self.spade_generator is not None else None

    def sample(self, seeds):
        """Layouts uint8 [N,1,h,w] (train ids) and images uint8 [N,3,H,W], one for each seed, on the CPU."""
        layouts = self.sample_layouts(seeds)
        return layouts, self.render(layouts, seeds)

    def sample_layouts(self, seeds):
        """uint8 [N,1,h,w], one for each seed. Each depends on its seed alone."""
        return draw_layouts(self.drawing_generator, seeds)

    def render(self, layouts, seeds=None, style=None):
        """Images uint8 [N,3,H,W] of layouts uint8 [N,1,h,w]. Styles: of the seeds, or style [1,D]."""
        if self.spade_generator is None:
            raise UserError("this model draws layouts alone (stage 1); take one of stage 3, or name SPADE's too")
        return render(self.spade_generator, layouts, seeds, style)

    def complete(self, layout, fixed, num: int = 8, seed: int = 0, steps: int = search.STEPS):
        """Layouts that keep a sketch and are likely elsewhere.

        layout: train ids uint8 [1,H,W] of the images' size or of the generator's; fixed: bool [1,H,W], where they stay.
        Returns layouts uint8 [num,1,H,W], and for each the share of the fixed pixels that it agreed with before they
        were pasted into it, float [num].
        """
        if fixed.shape != layout.shape:
            found, wanted = ("x".join(map(str, shape[-2:])) for shape in (fixed.shape, layout.shape))
            raise UserError(f"the mask has {found} pixels, wanted {wanted} as the layout has; resize it (nearest)")
        layout, fixed = self.checked(layout, fixed), fixed[None]
        return search.complete(self.scores, layout, fixed, range(seed, seed + num), steps)

    def invert(self, layouts, seed: int = 0, steps: int = search.STEPS):
        """Finds for each layout uint8 [N,1,H,W] the most similar one that the generator draws, uint8 [N,1,H,W], and the
        share of pixels on which the two agree, float [N]."""
        layouts = self.checked(layouts)
        fixed = torch.ones_like(layouts, dtype=torch.bool)
        drawn = search.matching(self.scores, layouts, fixed, range(seed, seed + len(layouts)), steps)
        return drawn, search.agreement(drawn, layouts, fixed)

    def shares(self, wished: dict, num: int = 8, seed: int = 0, steps: int = search.STEPS):
        """Layouts uint8 [num,1,h,w] whose classes have about the shares {name: share of the pixels}, and the shares of
        all classes that they got, float [num,C]."""
        wished = wished_shares(wished, self.label_space.names)
        layouts = search.with_shares(self.scores, wished, range(seed, seed + num), steps)
        return layouts, class_proportions(layouts, self.label_space.num_classes)

    def edit(self, layout, region, name: str, seed: int = 0, style=None):
        """A layout uint8 [1,H,W] with a region of another class, and its image uint8 [3,H,W]: still a pair.

        region: bool [1,H,W], or the box (top, left, bottom, right) in pixels, bottom and right exclusive.
        """
        layout = self.checked(layout)[0]  # [1,H,W]
        names = list(self.label_space.names)
        if name not in names:
            raise UserError(f"the class is {name!r}, wanted one of {'; '.join(names)}; take one of these")
        region = region if isinstance(region, torch.Tensor) else box_region(region, *layout.shape[1:])
        if region.shape != layout.shape or not region.any():
            found = f"{region.shape[1]}x{region.shape[2]} pixels, {int(region.sum())} of them set"
            raise UserError(f"the region has {found}, wanted {layout.shape[1]}x{layout.shape[2]}, some set; mend it")
        edited = layout.masked_fill(region, names.index(name))
        return edited, self.render(edited[None], [seed], style)[0]

    def walk(self, seeds, frames: int = 30, style=None):
        """Yields the frames of a walk through the seeds' scenes and back, some at a time: layouts uint8 [n,1,h,w], and
        images uint8 [n,3,H,W]. The style stays one: that given, [1,D], or the first seed's."""
        points = latents(seeds, self.drawing_generator.latent_dim, self.device)
        if style is None and self.spade_generator is not None and self.spade_generator.style_dim:
            style = latents(seeds[:1], self.spade_generator.style_dim, self.device)
        for z in closed_walk(points, frames).split(AT_ONCE):
            layouts = layouts_of(self.layout_generator, z)
            yield layouts, self.render(layouts, None, style)

    @property
    def drawing_generator(self) -> LayoutGenerator:
        """The layout generator. Raises UserError where there is none."""
        if self.layout_generator is None:
            raise UserError("this model has no layout generator (stage 2); name one of stage 3, or render layouts")
        return self.layout_generator

    @property
    def scores(self) -> search.Scores:
        """The scores that its layouts are searched by. Raises UserError where it draws none."""
        return search.Scores(self.drawing_generator, class_offsets(self.drawing_generator))

    def layout_sizes(self) -> list[tuple[int, int]]:
        """The (rows, columns) of layouts that it accepts: the images' size, and that of layouts it draws."""
        sizes = {(self.data["height"], self.data["width"])}
        if self.layout_generator is not None:
            rows = self.layout_generator.max_resolution
            sizes.add((rows, rows * self.data["aspect"]))
        return sorted(sizes, reverse=True)

    def checked(self, layouts, fixed=None):
        """Layouts uint8 [1,H,W] or [N,1,H,W] -> [N,1,H,W]. Raises UserError for a size that is none of
        `layout_sizes`, and for an id that is no class; with fixed, bool of the same shape, at fixed pixels alone."""
        layouts = layouts[None] if layouts.dim() == 3 else layouts
        height, width = layouts.shape[2:]
        if (height, width) not in self.layout_sizes():
            wanted = " or ".join(f"{h}x{w}" for h, w in self.layout_sizes())
            raise UserError(f"the layout has {height}x{width} pixels, wanted {wanted}; resize it (nearest)")
        known = layouts if fixed is None else layouts[fixed.expand_as(layouts)]
        highest = int(known.max()) if len(known) else 0
        if highest >= self.label_space.num_classes:
            wanted = f"train ids from 0 to {self.label_space.num_classes - 1}"
            raise UserError(f"the layout has id {highest}, wanted {wanted}; give such a pixel a class, or free it")
        return layouts

    def draw(self, seeds) -> dict:
        """Draws from noise, one for each seed: {"layouts", "images"}, or the one that it has a generator for."""
        if self.image_generator is not None:
            return {"images": draw_images(self.image_generator, seeds)}
        layouts = self.sample_layouts(seeds)
        return {"layouts": layouts} | ({"images": self.render(layouts, seeds)} if self.spade_generator else {})


def box_region(box, height: int, width: int):
    """(top, left, bottom, right) -> bool [1,height,width]"""
    top, left, bottom, right = box
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        wanted = f"0 <= top < bottom <= {height} and 0 <= left < right <= {width}"
        raise UserError(f"the box is {tuple(box)} (top, left, bottom, right), wanted {wanted}; move it")
    region = torch.zeros(1, height, width, dtype=torch.bool)
    region[:, top:bottom, left:right] = True
    return region


def load(path, spade_path=None, device=None, averaged: bool = True) -> Model:
    """Loads a trained model.

    path: a checkpoint of stage 3, of stage 2 (renders layouts), of stage 1 (draws layouts), or of stage 1 with SPADE's
    in `spade_path`: the system before fine-tuning. device: default CUDA if there is one; averaged: with the averages of
    the weights where there are some, not the last weights.
    """
    device = pick(device) if device is None or isinstance(device, str) else device
    return assemble(read(path, spade_path), device, averaged)


def read(path, spade_path=None) -> list[Checkpoint]:
    """Reads a checkpoint of any stage, or one of stage 1 and one of stage 2 that fit together."""
    if spade_path is None:
        return [checkpoint.read(path, *STAGES)]
    layout, spade = checkpoint.read(path, LAYOUT_GAN.name), checkpoint.read(spade_path, SPADE_STAGE.name)
    check_fit(layout.content, layout.path, spade.content, spade.path)
    return [layout, spade]


def assemble(checkpoints: list[Checkpoint], device, averaged: bool = True) -> Model:
    """Builds the model of the checkpoints that `read` gave."""
    records = {}  # by the names of stage 3
    for file in checkpoints:
        stage = STAGES[file.stage]
        records |= {stage.generator if name == "generator" else name: r for name, r in file.content["networks"].items()}
    classes = FINETUNE.networks | {"image_generator": ImageGenerator}
    parts = {
        name: checkpoint.rebuild(classes[name], records[name], device, averaged) if name in records else None
        for name in ("layout_generator", "spade_generator", "encoder", "image_generator")
    }
    data = checkpoints[-1].content["data"]  # SPADE's, where there are two: of the size of the images
    files = {file.stage: file.described(averaged) for file in checkpoints}
    return Model(label_space=LabelSpace.from_dict(data["label_space"]), data=data, files=files, **parts)


def check_fit(layout: dict, layout_path: Path, spade: dict, spade_path: Path):
    """Refuses a stage 1 and a stage 2 of different data sets, label tables or sizes. Raises UserError."""
    a, b = layout["data"], spade["data"]
    if a["name"] != b["name"]:
        raise UserError(
            f"{layout_path} was trained on {a['name']} and {spade_path} on {b['name']}; "
            "take checkpoints of one data set"
        )
    check_label_space(a, layout_path, b, str(spade_path))
    if a["aspect"] != b["aspect"]:
        raise UserError(
            f"{layout_path} has aspect {a['aspect']} (width / height) and {spade_path} has {b['aspect']}; "
            "take checkpoints of one aspect"
        )
    rows, image_rows = layout["networks"]["generator"]["arguments"]["max_resolution"], b["height"]
    if rows > image_rows:
        raise UserError(
            f"{layout_path} makes layouts of {rows} rows, more than the {image_rows} of the images of {spade_path}; "
            f"train stage 1 with --max_dim {image_rows} or lower, or stage 2 at a larger size"
        )
    if layout["resolution"] != rows or layout["alpha"] < 1:
        raise UserError(
            f"{layout_path} is from the middle of stage 1 (row {layout['resolution']} of {rows}, alpha "
            f"{layout['alpha']:.2f}); let stage 1 finish, or take a later --pro_iter"
        )


# --- Samples, on the CPU as uint8. Each depends on its seed alone ---

MEAN_OF = 1024  # latents that `truncated` takes the mean over
SHARES_OF, SHARES_ROWS = 128, 32  # latents that a class's share is found from, and at most so many rows of each
_offsets = weakref.WeakKeyDictionary()  # generator -> (what they depend on, offsets)


def draw_layouts(generator, seeds, resolution=None, alpha: float = 1.0):
    """One layout for each seed, uint8 [N,1,h,w]: the arg-max in which each class has the share of its probabilities."""
    device = next(generator.parameters()).device
    return layouts_of(generator, latents(seeds, generator.latent_dim, device), resolution, alpha)


def layouts_of(generator, z, resolution=None, alpha: float = 1.0):
    """Latents [N,latent_dim] -> layouts uint8 [N,1,h,w]."""
    offsets = class_offsets(generator, resolution, alpha)
    with evaluating(generator):
        return in_batches(lambda z: argmax(generator(z, resolution, alpha), offsets).cpu(), z)


def class_offsets(generator, resolution=None, alpha: float = 1.0):
    """`share_offsets` of a generator, [C]: found from a fixed set of latents, and kept until its weights change."""
    state = resolution, alpha, [p._version for p in generator.parameters()]
    if _offsets.get(generator, (None,))[0] != state:
        apart = max((resolution or generator.max_resolution) // SHARES_ROWS, 1)  # every so many rows and columns
        with evaluating(generator):
            z = latents(range(SHARES_OF), generator.latent_dim, next(generator.parameters()).device)
            found = in_batches(lambda z: generator(z, resolution, alpha)[:, :, ::apart, ::apart], z)
        _offsets[generator] = state, share_offsets(found.permute(0, 2, 3, 1).flatten(0, 2))
    return _offsets[generator][1]


def draw_images(generator, seeds, resolution=None, alpha: float = 1.0):
    """The RGB baseline's image for each seed, uint8 [N,3,h,w]."""
    z = latents(seeds, generator.latent_dim, next(generator.parameters()).device)
    with evaluating(generator):
        return in_batches(lambda z: to_uint8(generator(z, resolution, alpha)).cpu(), z)


@contextlib.contextmanager
def truncated(generator, psi: float):
    """Pulls the first block's features [N,K,4,4*aspect] towards their mean over latents: m + psi * (x - m).

    psi 1 changes nothing; psi 0 gives the same layout for every latent. Shrinking the latents themselves would do
    nothing, since the pixel norm at the entrance divides their length out; so StyleGAN's truncation trick (Karras et
    al. 2019, appendix B) has its place here.
    """
    if psi == 1:
        yield
        return
    class_offsets(generator)  # found, and kept, before the features are changed: they are those of all its layouts
    with evaluating(generator):
        device = next(generator.parameters()).device
        batches = latents(range(MEAN_OF), generator.latent_dim, device).split(128)
        mean = torch.stack([generator.blocks[0](z).mean(0) for z in batches]).mean(0)  # [K,4,4*aspect]
    hook = generator.blocks[0].register_forward_hook(lambda module, inputs, output: mean + psi * (output - mean))
    try:
        yield
    finally:
        hook.remove()
