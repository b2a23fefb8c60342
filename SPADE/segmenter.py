"""Segmentation networks: torchvision's, which are trained here, and any other that a user brings as a file.

`Segmenter` is what scores and filters ask: uint8 images to train ids.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from datasets.errors import UserError
from datasets.files import sha256
from datasets.labels import LabelSpace
from SPADE.engine import checkpoint
from SPADE.engine.config import require, setting
from SPADE.engine.device import widened
from SPADE.engine.distributed import total, world_size
from SPADE.evaluation.features import first_line, full_precision, load_program
from SPADE.modulation import RunningMoments
from SPADE.ops.affine import MOMENTUM, track
from SPADE.pretrained import load_weights, torchvision  # noqa: F401 (before any other import from torchvision)

# isort: split
from torchvision.models import segmentation

STAGE = "segmenter"  # in checkpoints
ARCHITECTURES = {
    "lraspp_mobilenet_v3_large": segmentation.lraspp_mobilenet_v3_large,
    "deeplabv3_mobilenet_v3_large": segmentation.deeplabv3_mobilenet_v3_large,
    "deeplabv3_resnet50": segmentation.deeplabv3_resnet50,
}
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of pixels 0..255: torchvision's input
BATCH = 16  # images that go through a network at once


@dataclass(frozen=True, kw_only=True)
class SegmenterFile:
    """The flags of programs that ask a segmentation network."""

    segmenter: str | None = setting(
        None, "segmentation network: a checkpoint of SBGAN.train_segmenter, or TorchScript or .pt2, "
        "uint8 [N,3,H,W] -> logits [N,K,h,w] or ids"
    )  # fmt: skip
    segmenter_ids: str | None = setting(
        None, "JSON list of the class's name for each of the segmenter's ids, null where there is none"
    )


class BatchNorm(RunningMoments):
    """Batch norm with the statistics of all processes' batches together.

    In place of torchvision's layers: these count batches, which the rehearsal of a step would count, too, and
    MobileNet's follow the statistics so slowly (momentum 0.01) that a training of minutes ends before they arrive.
    """

    def __init__(self, channels: int, eps: float):
        super().__init__(channels)
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x):
        """[N,K,h,w] -> the same."""
        running = self.running_mean, self.running_var
        if not self.training or world_size() == 1:
            return F.batch_norm(x, *running, self.weight, self.bias, self.training, MOMENTUM, self.eps)
        wide = widened(x)
        mean = Average.apply(wide.mean((0, 2, 3)))  # [K]
        centred = wide - mean[:, None, None]
        variance = Average.apply(centred.square().mean((0, 2, 3)))
        track(*running, mean.detach(), variance.detach(), x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class Average(torch.autograd.Function):
    """Mean over the processes; its gradient is that mean of theirs."""

    @staticmethod
    def forward(ctx, values):
        return total(values / world_size())

    @staticmethod
    def backward(ctx, gradient):
        return total(gradient / world_size())


class SegmentationNetwork(nn.Module):
    """One of torchvision's, from pixels to logits of the same size."""

    def __init__(
        self,
        num_classes: int,
        architecture: str = "lraspp_mobilenet_v3_large",
        enlarge: int = 1,  # images before the network: its own maps are 8 or 16 times as small as what it sees
    ):
        super().__init__()
        self.arguments = dict(num_classes=num_classes, architecture=architecture, enlarge=enlarge)
        self.num_classes, self.enlarge = num_classes, enlarge
        self.network = ARCHITECTURES[architecture](weights=None, weights_backbone=None, num_classes=num_classes)
        for parent in [*self.network.modules()]:
            for name, layer in parent.named_children():
                if isinstance(layer, nn.BatchNorm2d):
                    setattr(parent, name, BatchNorm(layer.num_features, layer.eps))
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images):
        """float [N,3,H,W] in 0..255 -> logits float32 [N,C,H,W]."""
        size = images.shape[-2:]
        x = (images - self.mean) / self.std
        if self.enlarge > 1:
            x = F.interpolate(x, scale_factor=self.enlarge, mode="bilinear")
        x = self.network(x.contiguous(memory_format=torch.channels_last))["out"]  # [N,C,enlarge*H,enlarge*W]
        return at_size(x, size)

    def load_backbone(self, path):
        """Takes ImageNet's weights of torchvision's classifier of the same name, or a segmentation network's."""
        found, backbone = load_weights(path), self.network.backbone
        found = {re.sub(r"^(backbone|features)\.", "", name): tensor for name, tensor in found.items()}
        for name, tensor in backbone.state_dict().items():
            if name not in found or found[name].shape != tensor.shape:
                wanted = f"torchvision's weights of the backbone of {self.arguments['architecture']}"
                require(False, "backbone_weights", path, f"{wanted}; it has no {name} {list(tensor.shape)}",
                        "name such a file, or leave it out")  # fmt: skip
        backbone.load_state_dict({name: found[name] for name in backbone.state_dict()})


def at_size(logits, size):
    """Logits [N,K,h,w] -> float32 [N,K,H,W]."""
    logits = widened(logits)
    return logits if logits.shape[-2:] == size else F.interpolate(logits, size, mode="bilinear")


@dataclass(frozen=True)
class Segmenter:
    """A network, and what it sees in the train ids of a store."""

    name: str  # of its file, or of the run that trains it
    digest: str  # of the file
    network: Callable  # uint8 [n,3,H,W] -> logits [n,K,h,w], or ids [n,h,w] or [n,1,h,w], on its device
    classes: tuple  # train id of each of its K ids; None: no class of the store, which is never chosen
    scored: tuple  # train ids that scores count: those that the network has, but for unknown
    left_out: tuple  # names of the others

    @property
    def described(self) -> dict:
        return {"file": self.name, "sha256": self.digest, "left_out": list(self.left_out)}

    @property
    def protocol(self) -> str:
        left_out = f"without {', '.join(self.left_out)}" if self.left_out else "all classes"
        return (
            f"what {Path(self.name).name} (SHA-256 {self.digest[:8]}) sees in images against their layouts; mean over "
            f"classes that occur there, {left_out}"
        )

    def predict(self, images, device="cpu"):
        """uint8 [N,3,H,W] -> train ids uint8 [N,1,H,W], on the CPU, computed in full float32."""
        return torch.cat([self.chosen(batch).cpu() for batch in self.outputs(images, device)])

    def chosen(self, output):
        """The class of the largest logit, of one batch: uint8 [n,1,H,W]."""
        ids = output.argmax(1, keepdim=True) if output.is_floating_point() else output
        table = torch.tensor([0 if c is None else c for c in self.classes], dtype=torch.uint8, device=ids.device)
        return table[ids]

    def surprise(self, images, layouts, device="cpu"):
        """-log p of each pixel's class, float32 [N,1,H,W] on the CPU; layouts: train ids uint8 [N,1,H,W]."""
        found = []
        for logits, given in zip(self.outputs(images, device), layouts.split(BATCH), strict=True):
            if not logits.is_floating_point():
                require(False, "segmenter", self.name, "one that gives logits", "ids say nothing of doubt")
            log_p = logits.new_full((len(logits), 256, *logits.shape[-2:]), -torch.inf)
            for i, train_id in enumerate(self.classes):
                if train_id is not None:
                    log_p[:, train_id] = torch.logaddexp(log_p[:, train_id], logits.log_softmax(1)[:, i])
            found.append(-log_p.gather(1, given.to(log_p.device).long()).cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def outputs(self, images, device):
        """Yields for each batch logits [n,K,H,W], -inf where there is no class, or ids int64 [n,1,H,W]."""
        nowhere = [i for i, train_id in enumerate(self.classes) if train_id is None]
        for batch in images.split(BATCH):
            with full_precision():
                output = self.network(batch.to(device))
            self.check(output, len(batch))
            if output.is_floating_point():
                output = at_size(output, images.shape[-2:]).clone()
                for i in nowhere:
                    output[:, i] = -torch.inf
                yield output
                continue
            ids = output.view(len(batch), 1, *output.shape[-2:])
            yield F.interpolate(ids.float(), images.shape[-2:], mode="nearest").long()

    def check(self, output, count: int):
        """Refuses what is neither logits of the known classes nor ids of them."""
        shape = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        known = len(self.classes)
        logits = isinstance(output, torch.Tensor) and output.is_floating_point()
        if not isinstance(shape, list) or shape[:1] != [count] or not (
            len(shape) == 4 if logits else len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)
        ):  # fmt: skip
            require(False, "segmenter", f"{self.name}, which gives {shape} for {count} images",
                    "one that gives logits [N,K,h,w] or ids [N,h,w]", "wrap the network so that it does")  # fmt: skip
        found = shape[1] if logits else int(output.max()) + 1
        if found != known if logits else found > known:
            require(False, "segmenter", f"{self.name}, which gives {found} classes", f"one of {known}",
                    "say by --segmenter_ids which class each of its ids is")  # fmt: skip
        if not logits and output.min() < 0:
            require(False, "segmenter", f"{self.name}, which gives the id {int(output.min())}", "one of ids from 0 on",
                    "wrap the network so that it gives such")  # fmt: skip
        if not logits and None in self.classes:
            require(False, "segmenter_ids", "a table with null", "one without for a segmenter that gives ids",
                    "give every id a class")  # fmt: skip


def open_segmenter(config: SegmenterFile, data: dict, device) -> Segmenter | None:
    """The segmenter that the flags name, after it has seen a blank image; None without one.

    data: of the store or of the checkpoint whose pairs it is to see, as `data_record` gives it.
    """
    require(config.segmenter or not config.segmenter_ids, "segmenter_ids", "given", "given with --segmenter", "add it")
    if config.segmenter is None:
        return None
    path, space = Path(config.segmenter), LabelSpace.from_dict(data["label_space"])
    require(path.is_file(), "segmenter", path, "a file", "name a segmentation network's file")
    if is_checkpoint(path):
        require(config.segmenter_ids is None, "segmenter_ids", "given", "left out with one of SBGAN.train_segmenter",
                "its ids are the store's")  # fmt: skip
        saved = checkpoint.read(path, STAGE)
        trained, wanted = (
            f"{about['name']} at {about['height']}x{about['width']} with {len(about['label_space']['classes'])} classes"
            for about in (saved.content["data"], data)
        )
        same = trained == wanted and saved.content["data"]["label_space_hash"] == data["label_space_hash"]
        require(same, "segmenter", f"{path}, trained on {trained}", f"one of {wanted}, and of that label table",
                "train one on that store")  # fmt: skip
        network = checkpoint.rebuild(SegmentationNetwork, saved.content["networks"]["segmenter"], device).eval()
        found = segmenter_of(network, space, str(path), saved.sha256)
    else:
        classes = read_ids(Path(config.segmenter_ids), space) if config.segmenter_ids else range(space.num_classes)
        found = make_segmenter(users_segmenter(path, device), classes, space, str(path), sha256(path)[:16])
    found.predict(torch.zeros(2, 3, data["height"], data["width"], dtype=torch.uint8), device)
    return found


def is_checkpoint(path: Path) -> bool:
    try:
        checkpoint.position(path)
    except checkpoint.Damaged:
        return False
    return True


def segmenter_of(network: SegmentationNetwork, space, name: str, digest: str) -> Segmenter:
    """One of ours, in evaluation mode; it never chooses unknown, which it has not learnt."""
    classes = (None if i in space.unknown else i for i in range(space.num_classes))
    return make_segmenter(lambda images: network(images.float()), classes, space, name, digest)


def make_segmenter(network, classes, space, name: str, digest: str) -> Segmenter:
    """classes: train id of each of the network's ids."""
    classes = tuple(classes)
    scored = tuple(i for i in range(space.num_classes) if i in classes and i not in space.unknown)
    left_out = tuple(space.names[i] for i in range(space.num_classes) if i not in scored)
    return Segmenter(name, digest, network, classes, scored, left_out)


def users_segmenter(path: Path, device):
    """A program in a file, with one sentence for what it raises, and for what is no number."""
    program = load_program(path, str(device), "segmenter")

    def run(images):
        try:
            output = program(images)
        except Exception as error:
            raise UserError(
                f"--segmenter {path} fails on uint8 images {list(images.shape)} ({first_line(error)}); it must take "
                "uint8 [N,3,H,W] for every N and give logits [N,K,h,w] or ids"
            ) from error
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.isnan().any():
            require(False, "segmenter", f"{path}, which gives what is no number (NaN)", "one that gives logits",
                    "look at the network")  # fmt: skip
        return output

    return run


def read_ids(path: Path, space) -> tuple:
    """Train id for each of a segmenter's ids, from a JSON list of names or train ids, or {id: name}."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(table, dict):
            table = [table.get(str(i)) for i in range(1 + max(map(int, table)))]
    except (OSError, ValueError) as error:
        raise UserError(f"--segmenter_ids {path} cannot be read ({error}); give a JSON list of class names") from error
    require(isinstance(table, list) and table, "segmenter_ids", path, "a JSON list of class names", "write it so")
    numbers = {name: i for i, name in enumerate(space.names)} | {i: i for i in range(space.num_classes)} | {None: None}
    for entry in table:
        known = isinstance(entry, (str, int, type(None))) and entry in numbers
        require(known, "segmenter_ids", f"{path} with {entry!r}", f"one of classes of {space.name}",
                f"take of {', '.join(space.names)}, or null")  # fmt: skip
    return tuple(numbers[entry] for entry in table)
