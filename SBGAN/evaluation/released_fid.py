"""`fid_released`: the computation behind the published table of SB-GAN, oddities included; not a standard FID.

torchvision's ImageNet Inception sees images in [-3,1] (they are in [-1,1] and get mapped by 2x - 1 as if they were in
[0,1]), the layouts are soft maps, and the reference images are flipped at random. Compare it with that table alone.
"""

import torch
import torch.nn.functional as F

from datasets.errors import UserError
from SBGAN.discretize import resize
from SPADE.engine.distributed import from_first, shared_out
from SPADE.engine.evaluation import evaluating
from SPADE.engine.images import from_uint8
from SPADE.evaluation.features import full_precision
from SPADE.evaluation.frechet import frechet_distance
from SPADE.evaluation.reference import real_images
from SPADE.pretrained import find_weights, load_weights
from SPADE.sampling import latents
from SPADE.torchvision_import import torchvision

PROTOCOL = (
    "the released code's: torchvision's Inception on images in [-3,1], soft layouts, references flipped at random; "
    "compare with the published table alone"
)


def imagenet_inception(path, device):
    """Images float [n,3,H,W] in [-1,1] -> float [n,2048], as the released code calls it. path: None for the cache."""
    url = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.url
    without = "leave --fid_released out"
    from_first(find_weights, url, path, without)  # the other processes find what is downloaded here
    path = find_weights(url, path, without)
    network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=False)
    try:
        network.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise UserError(f"{path} holds no weights of torchvision's Inception ({str(error).splitlines()[0]})") from error
    network.fc, network.AuxLogits = torch.nn.Identity(), None
    network.eval().requires_grad_(False).to(device)

    def features(images):
        resized = F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)
        return network(2 * resized - 1)  # [n,2048]

    return features


def soft_scenes(layout_generator, spade_generator, store, device):
    """Function of a seed: an image float [1,3,H,W] in [-1,1] of a soft layout."""

    def draw(seed):
        z = latents([seed], layout_generator.latent_dim, device)
        style = latents([seed], spade_generator.style_dim, device) if spade_generator.style_dim else None
        with evaluating(layout_generator, spade_generator):
            return spade_generator(resize(layout_generator(z).exp(), store.height, store.width), style=style)

    return draw


@torch.no_grad()
def fid_released(draw, inception, store, num: int, seed: int, height: int, device) -> float:
    """draw: seed -> image float [1,3,height,W] in [-1,1]; inception: as of `imagenet_inception`."""
    split = store[store.reference]
    flipped = torch.rand(min(num, len(split)), generator=torch.Generator().manual_seed(seed)) < 0.5

    def of_fakes(numbers):
        return {"features": torch.cat([inception(draw(seed + i)).cpu() for i in numbers])}

    def of_reals(numbers):
        images = real_images(split, numbers, height)
        images = torch.where(flipped[numbers.start : numbers.stop, None, None, None], images.flip(3), images)
        return {"features": inception(from_uint8(images.to(device))).cpu()}

    with full_precision():
        fake, real = shared_out(of_fakes, num), shared_out(of_reals, len(flipped))
    return from_first(lambda: frechet_distance(fake["features"], real["features"]))
