"""Everything that the page does, without the page: canvases, scenes, completions and saved pairs of one model."""

import base64
import io
import json
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets.errors import UserError
from SBGAN.drawing.files import Files, Writer, check_size, read_sketch, read_style, save_animation, walk_frames
from SBGAN.model import Model
from SPADE.engine.images import colour_layouts, enlarge
from SPADE.modulation import resize

FREE = 255  # a pixel of the canvas that has no class
SHOWN_COLUMNS = 512  # pictures are enlarged to at least so many
SECONDS_A_STROKE = 1.0  # drawing after each stroke is offered where it takes less


class Studio:
    """Canvases are uint8 [H,W] of the images' size: train ids, or FREE."""

    def __init__(self, model: Model):
        self.model, self.space = model, model.label_space
        self.place = tempfile.TemporaryDirectory(prefix="sbgan_")  # of walks; gone with the page
        self.turn = threading.Lock()  # the model works for one request at a time
        rows = model.image_height or model.layout_generator.max_resolution  # of stage 1 alone: its own
        self.size = rows, rows * model.data["aspect"]
        self.no_layouts = None if model.layout_generator else "this checkpoint (stage 2) draws no layouts"
        self.no_images = None if model.spade_generator else "this checkpoint (stage 1) draws no images"
        self.no_style = None if model.encoder else "this model has no style encoder (stage 2 with --use_vae)"
        self.has_styles = bool(model.spade_generator and model.spade_generator.style_dim)
        self.quick = self.no_images is None and self.seconds_to_render() < SECONDS_A_STROKE

    def seconds_to_render(self) -> float:
        blank = np.zeros(self.size, np.uint8)
        self.render(blank, 0)  # the first call of a network takes longer than all others
        start = time.perf_counter()
        self.render(blank, 0)
        return time.perf_counter() - start

    # --- Canvas ---

    def decode(self, value) -> np.ndarray:
        """Decodes what the canvas sends, {"ids": base64}, or None where it is untouched -> canvas. Raises UserError."""
        if not value:
            return np.full(self.size, FREE, np.uint8)
        try:
            ids = np.frombuffer(base64.b64decode(value["ids"]), np.uint8)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the canvas says {str(value)[:40]!r}, wanted its pixels; reload the page") from error
        if ids.size != self.size[0] * self.size[1]:
            wanted = f"{self.size[0]}x{self.size[1]}"
            raise UserError(f"the canvas has {ids.size} pixels, wanted {wanted}; reload the page")
        if (ids[ids != FREE] >= self.space.num_classes).any():
            raise UserError(f"the canvas has id {ids[ids != FREE].max()}, wanted classes; reload the page")
        return ids.reshape(self.size)

    def encode(self, canvas: np.ndarray) -> dict:
        return {"ids": base64.b64encode(np.ascontiguousarray(canvas).tobytes()).decode()}

    def read(self, path: str, kind: str, nearest: bool) -> np.ndarray:
        """A layout or sketch from an uploaded file as a canvas. Raises UserError."""
        labels, fixed = read_sketch(Path(path), self.space, kind, nearest)
        check_size(labels, Path(path).name, self.model)
        return np.where(self.whole(fixed), self.whole(labels.copy()), FREE).astype(np.uint8)

    def whole(self, layout) -> np.ndarray:
        """[h,w] or [1,h,w], uint8 or bool, array or tensor -> [H,W] of canvases."""
        layout = torch.as_tensor(layout)
        whole = resize(layout.reshape(1, 1, *layout.shape[-2:]).to(torch.uint8), *self.size)[0, 0]
        return whole.to(layout.dtype).numpy()

    # --- What the model draws ---

    def render(self, canvas: np.ndarray, seed: int, style=None):
        """Image uint8 [3,H,W] of a canvas without free pixels. Raises UserError."""
        self.refuse(self.no_images)
        free = int((canvas == FREE).sum())
        if free:
            raise UserError(f"{free} pixels of the canvas are free, wanted none; paint them, or let them be completed")
        with self.turn:
            return self.model.render(torch.from_numpy(canvas.copy())[None, None], [seed], style)[0]

    def style_of(self, path: str | None):
        """The style of an uploaded image, or None."""
        if not path:
            return None
        with self.turn:
            return read_style(Path(path), self.model)

    def scenes(self, num: int, seed: int, shares: dict):
        """Canvases [N] of seeds, steered to shares {class: share} where there are some, and a text that counts them."""
        self.refuse(self.no_layouts)
        with self.turn:
            if not shares:
                return [self.whole(layout) for layout in self.model.sample_layouts(range(seed, seed + num))], ""
            layouts, got = self.model.shares(shares, num, seed)
        canvases = [self.whole(layout) for layout in layouts]
        got = got[:, [self.space.names.index(name) for name in shares]]
        lines = [
            f"{name}: asked for {share:.3f} of the pixels, got {' '.join(f'{value:.3f}' for value in values)}"
            for (name, share), values in zip(shares.items(), got.T.tolist(), strict=True)
        ]
        return canvases, "\n".join(lines)

    def complete(self, canvas: np.ndarray, num: int, seed: int):
        """Canvases [num] that keep what is painted, and the share of it that each was drawn with, [num]."""
        self.refuse(self.no_layouts)
        layout, fixed = torch.from_numpy(canvas.copy())[None], torch.from_numpy(canvas != FREE)[None]
        with self.turn:
            layouts, agreement = self.model.complete(layout, fixed, num, seed)
        return [layout[0].numpy() for layout in layouts], agreement.tolist()

    def walk(self, first: int, second: int, frames: int) -> Path:
        """Draws an animation from one seed's scene to another's and back."""
        self.refuse(self.no_layouts or self.no_images)
        path = Path(self.place.name) / f"walk_{first}_{second}.webp"
        with self.turn:
            save_animation(walk_frames(self.model, [first, second], frames), path)
        return path

    def refuse(self, reason: str | None):
        if reason:
            raise UserError(f"{reason}; open the page on one of stage 3")

    # --- What a person sees ---

    def coloured(self, canvas: np.ndarray) -> np.ndarray:
        """uint8 [H,W,3], free pixels white"""
        colours = np.full((256, 3), 255, np.uint8)
        colours[: self.space.num_classes] = self.space.colours
        return self.shown(colour_layouts(torch.from_numpy(canvas.copy())[None, None], torch.from_numpy(colours))[0])

    def shown(self, image) -> np.ndarray:
        """uint8 [3,H,W] -> uint8 [H,W,3], pixels repeated until they can be seen."""
        times = -(-SHOWN_COLUMNS // image.shape[2])
        image = enlarge(image[None], times * image.shape[1], times * image.shape[2])[0]
        return image.permute(1, 2, 0).numpy()

    def pictures(self, canvases, seeds) -> list[np.ndarray]:
        """Images of canvases, or their colours where there are none, for the gallery."""
        if self.no_images:
            return [self.coloured(canvas) for canvas in canvases]
        return [self.shown(self.render(canvas, seed)) for canvas, seed in zip(canvases, seeds, strict=True)]

    # --- Saved pairs ---

    def save(self, canvas: np.ndarray, seed: int, style, folder: Path) -> list[Path]:
        """Writes image, layout, colours and raw ids of a pair into folders there, its line into scenes.jsonl."""
        image = self.render(canvas, seed, style)
        name = f"{sum(1 for _ in folder.glob('images/*.png')):04d}"
        with Writer() as writer:
            Files(folder, self.model, writer).write(name, torch.from_numpy(canvas.copy())[None], image)
        with open(folder / "scenes.jsonl", "a") as file:
            file.write(json.dumps({"name": name} | self.line(canvas, seed, style)) + "\n")
        return [*sorted(folder.glob(f"*/{name}.png")), folder / "scenes.jsonl"]

    def line(self, canvas: np.ndarray, seed: int, style) -> dict:
        """All that an image depends on: `redraw` makes it anew."""
        file = list(self.model.files.values())[-1]
        with io.BytesIO() as png:
            Image.fromarray(canvas).save(png, format="PNG")
            layout = base64.b64encode(png.getvalue()).decode()
        more = {} if style is None else {"style": style.flatten().tolist()}
        return {"checkpoint": file["file"], "sha256": file["sha256"], "seed": seed, "layout_png": layout} | more


def redraw(model: Model, line: dict):
    """The pair of a line of scenes.jsonl: layout uint8 [1,H,W], image uint8 [3,H,W]."""
    layout = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(line["layout_png"])))))[None]
    style = torch.tensor([line["style"]], device=model.device) if "style" in line else None
    return layout, model.render(layout[None], [line["seed"]], style)[0]


def packed(folder: Path) -> Path:
    """All saved pairs as one file, beside them."""
    path = folder / "scenes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.suffix in (".png", ".jsonl"):
                archive.write(file, file.relative_to(folder))
    return path
