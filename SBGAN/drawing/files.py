"""The files of samples: image, layout, raw ids."""

from pathlib import Path

import numpy as np

from datasets.labels import colourise
from SBGAN.discretize import resize
from SBGAN.model import Model
from SBGAN.saving import Writer


class Files:
    """Where one sample's files go. Each of them but the image can be given back by --layouts."""

    def __init__(self, out: Path, model: Model, writer: Writer):
        self.out, self.writer = out, writer
        self.size, self.space = (model.data["height"], model.data["width"]), model.label_space
        listed = [c.raw_ids[0] if c.raw_ids else None for c in self.space.classes]
        self.raw_ids = None if None in listed else np.array(listed, np.uint8)  # train id -> raw id

    def write(self, name: str, layout, image):
        """layout uint8 [1,h,w] (written at the image's size, so that the two are a pair), image uint8 [3,H,W]"""
        labels = np.ascontiguousarray(resize(layout[None], *self.size)[0, 0].numpy())
        colours, place = self.space.colours, f"{name}.png"
        self.writer.png(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), self.out / "images" / place)
        self.writer.png(labels, self.out / "layouts" / place, colours)
        if self.space.has_own_colours:
            self.writer.png(colourise(labels, colours), self.out / "colours" / place)
        else:  # red, green and blue alone would not say which of the classes that share them
            self.writer.png(labels, self.out / "colours" / place, colours)
        if self.raw_ids is not None:
            self.writer.png(self.raw_ids[labels], self.out / "raw_ids" / place)
