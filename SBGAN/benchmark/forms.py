"""The two forms that are timed beside one another.

Plain: dense, NCHW, float32, separate convolutions, gradients everywhere. The product's: as the trainings do it, in one
of their number formats.
"""

import contextlib
from dataclasses import dataclass

from SBGAN.discretize import plain_straight_through, straight_through
from SPADE.engine import step
from SPADE.engine.device import PRECISIONS, place
from SPADE.engine.images import from_uint8


@dataclass(frozen=True)
class Form:
    plain: bool
    precision: str  # one of PRECISIONS

    def place(self, network, device):
        return network.to(device) if self.plain else place(network, device)

    def images(self, images):
        """uint8 [N,3,H,W] -> [-1,1]"""
        images = from_uint8(images)
        return images.contiguous() if self.plain else images

    def sample(self, log_probabilities, exponential):
        """One-hot layouts, with the gradient of the softmax."""
        sample = plain_straight_through if self.plain else straight_through
        return sample(log_probabilities, exponential=exponential)

    def frozen(self, *networks):
        """Context in which these networks' parameters get no gradients."""
        return contextlib.nullcontext() if self.plain else step.frozen(*networks)


FORMS = {"plain": Form(True, "fp32")} | {f"product {name}": Form(False, name) for name in PRECISIONS}
