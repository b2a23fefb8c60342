"""Pairs one can trust: which of them a segmentation network agrees with, and which of their pixels it doubts.

Leaving out what a network trained on real pairs finds unlikely is what makes generated pairs useful (Yang et al.,
*FreeMask*, NeurIPS 2023, section 3.3).
"""

from dataclasses import dataclass

import torch

from datasets.labels import LabelSpace
from SBGAN.drawing.files import NO_CLASS, Files
from SBGAN.model import Model
from SPADE.engine.config import require
from SPADE.engine.distributed import from_first
from SPADE.modulation import resize
from SPADE.segmenter import Segmenter, open_segmenter

MEASURED = 64  # pairs, at most, that are drawn to find out how much surprise is usual


@dataclass(frozen=True)
class Trust:
    """What `--keep_aligned` and `--doubtful` say; a pair has layout uint8 [1,H,W] and image uint8 [3,H,W]."""

    segmenter: Segmenter
    device: torch.device
    least: float | None  # share of pixels, or of each class's, that the segmenter must agree with
    by_class: bool
    doubtful: int | None  # what is written where it doubts
    usual: torch.Tensor | None  # float [256]: of each class, the surprise (-log p) that is beyond doubt

    def kept(self, layouts, images) -> list[int]:
        """Numbers of the pairs that the segmenter agrees with enough; layouts uint8 [N,1,H,W] of the images' size."""
        if self.least is None:
            return list(range(len(layouts)))
        agreement = agreements(self.segmenter, layouts, images, self.by_class, self.device)
        return (agreement >= self.least).nonzero()[:, 0].tolist()

    def marked(self, layouts, images):
        """The layouts, with the doubtful id where the segmenter doubts most."""
        if self.doubtful is None or not len(layouts):
            return layouts
        surprise = self.segmenter.surprise(images, layouts, self.device)
        return torch.where(surprise > self.usual[layouts.long()], self.doubtful, layouts)


def write_pairs(files: Files, trust: Trust | None, names: list[str], layouts, images) -> int:
    """Writes the pairs that are trusted, or all; returns how many. Layouts may be smaller than the images."""
    if trust and names:
        layouts = resize(layouts, *images.shape[-2:])
        chosen = trust.kept(layouts, images)
        names, layouts, images = [names[i] for i in chosen], layouts[chosen], images[chosen]
        layouts = trust.marked(layouts, images)
    for name, layout, image in zip(names, layouts, images, strict=True):
        files.write(name, layout, image)
    return len(names)


def agreements(segmenter: Segmenter, layouts, images, by_class: bool, device) -> torch.Tensor:
    """Of each pair, the share of pixels that the segmenter sees as the layout says, or the least share of a class that
    occurs: float [N]. Pixels of classes that it does not score are left out; 0 where none is left."""
    scored = torch.zeros(256, dtype=torch.bool)
    scored[list(segmenter.scored)] = True
    counted = scored[layouts.long()].flatten(1)  # [N,H*W]
    agree = counted & (segmenter.predict(images, device) == layouts).flatten(1)
    if not by_class:
        return agree.sum(1) / counted.sum(1).clamp(min=1)
    ids = layouts.flatten(1).long()
    pixels, right = (torch.zeros(len(ids), 256).scatter_add_(1, ids, mask.float()) for mask in (counted, agree))
    shares = torch.where(pixels > 0, right / pixels, torch.inf).amin(1)  # [N] of [N,256]
    return torch.where(shares.isfinite(), shares, 0)


def usual_surprise(segmenter: Segmenter, layouts, images, share: float, device) -> torch.Tensor:
    """float [256]: what all but a share of each class's pixels stay below."""
    surprise, usual = segmenter.surprise(images, layouts, device), torch.full((256,), torch.inf)
    for train_id in set(layouts.unique().tolist()) & set(segmenter.scored):
        values = surprise[layouts == train_id].sort().values
        usual[train_id] = values[min(int(len(values) * (1 - share)), len(values) - 1)]
    return usual


def unknown_id(space: LabelSpace) -> int:
    """What a doubtful pixel becomes: the table's unknown class, or an id of no class, which training code ignores."""
    return space.unknown[0] if space.unknown else NO_CLASS


def check_trust(config):
    """Refuses flags that say nothing without the others. Raises UserError."""
    asked = [flag for flag in ("keep_aligned", "doubtful") if getattr(config, flag) is not None]
    require(config.segmenter or not asked, asked and asked[0], "given", "given with --segmenter", "name one")
    require(asked or not config.segmenter, "segmenter", "given", "given with --keep_aligned or --doubtful", "add one")
    for flag in ("grid", "interpolate", "complete", "invert", "shares"):
        require(not (asked and getattr(config, flag)), asked and asked[0], "given", f"left out beside --{flag}",
                "it is of pairs to train on")  # fmt: skip


def open_trust(config, model: Model, draw) -> Trust | None:
    """What the flags ask for, if anything; draw: number -> that many layouts of the images' size, and images."""
    segmenter = open_segmenter(config, model.data, model.device)
    if segmenter is None:
        return None
    usual = doubtful = None
    if config.doubtful is not None:
        doubtful = unknown_id(model.label_space)

        def measure():
            pairs = draw(min(config.num, MEASURED))
            return usual_surprise(segmenter, *pairs, config.doubtful_share, model.device)

        usual = from_first(measure)
    return Trust(segmenter, model.device, config.keep_aligned, config.keep_aligned_by == "class", doubtful, usual)
