"""The SPADE generator, the multi-scale patch discriminator and the style encoder (Park et al., CVPR 2019); a
segmentation network as the critic (Sushko et al., *OASIS*, ICLR 2021): each pixel is of a class, or fake.
"""

import torch
import torch.nn.functional as F
from torch import nn

from datasets.labels import one_hot
from SPADE.engine.device import widened
from SPADE.modulation import SPADENorm, SpectralConv2d, initialise, instance_norm, layout_at, semantics_at
from SPADE.ops.affine import batch_moments

LEAK = 0.2
UPSAMPLINGS = {"normal": 5, "more": 6, "most": 7}  # SPADE's names for how often the start is doubled
INTERPOLATIONS = ("nearest", "bilinear")


class TextureNoise(nn.Module):
    """Adds a normal number to each pixel, times a learned strength of each channel: [N,K,h,w] -> [N,K,h,w].

    As in StyleGAN (Karras et al., CVPR 2019, section 3.2), but drawn once and kept, so that an image depends on its
    layout alone. Within a large area of one class there is nothing else that a texture could be made of. Where each
    sample's noise begins elsewhere in training (offsets), the generator can't learn by heart what stands where.
    """

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        self.register_buffer("noise", torch.randn(1, 1, height, width))
        self.strength = nn.Parameter(torch.zeros(channels))

    def forward(self, x, offsets=None):
        """offsets: float [N,2] in [0,1), the row and the column that each sample's noise begins at; None: the first."""
        noise = self.noise if offsets is None else rolled(self.noise, offsets)
        return torch.addcmul(x, noise.to(x.dtype), self.strength.view(-1, 1, 1).to(x.dtype))


def rolled(noise, offsets):
    """Noise [1,1,h,w] -> [N,1,h,w]; sample i's begins at its offsets, and goes on from the other edge."""
    h, w = noise.shape[2:]
    rows = ((offsets[:, :1] * h).long() + torch.arange(h, device=noise.device)) % h  # [N,h]
    columns = ((offsets[:, 1:] * w).long() + torch.arange(w, device=noise.device)) % w  # [N,w]
    return noise[0, 0][rows[:, :, None], columns[:, None, :]].unsqueeze(1)


class ResidualBlock(nn.Module):
    """Two modulated convolutions and a learned shortcut where the width changes, [N,in,h,w] -> [N,out,h,w].

    noise_size: rows and columns of the output, where noise is added to both convolutions' outputs; else None.
    """

    def __init__(self, in_channels, out_channels, num_classes, hidden, interpolation, noise_size, plain):
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm_0 = SPADENorm(in_channels, num_classes, hidden, plain)
        self.norm_1 = SPADENorm(middle, num_classes, hidden, plain)
        self.conv_0 = SpectralConv2d(in_channels, middle, 3, padding=1)
        self.conv_1 = SpectralConv2d(middle, out_channels, 3, padding=1)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.norm_s = SPADENorm(in_channels, num_classes, hidden, plain)
            self.conv_s = SpectralConv2d(in_channels, out_channels, 1, bias=False)
        self.noise_0 = TextureNoise(middle, *noise_size) if noise_size else None
        self.noise_1 = TextureNoise(out_channels, *noise_size) if noise_size else None
        self.interpolation, self.plain = interpolation, plain

    def forward(self, x, layout, upsample: bool, offsets=None):
        """layout: `layout_at` the output's size, which is twice that of x with upsampling first; offsets: of noise."""
        if upsample and self.interpolation == "bilinear":
            x, upsample = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), False
        elif upsample and (self.plain or not self.learned_shortcut):  # else the norms do it, without writing it down
            x, upsample = F.interpolate(x, scale_factor=2, mode="nearest"), False
        shared = self.training and self.learned_shortcut and not self.plain and not torch.compiler.is_compiling()
        moments = batch_moments(x) if shared else None  # two of the norms see the same x
        shortcut = self.conv_s(self.norm_s(x, layout, upsample, moments=moments)) if self.learned_shortcut else x
        x = self.conv_0(self.norm_0(x, layout, upsample, LEAK, moments))
        if self.noise_0 is not None:
            x = self.noise_0(x, offsets)
        x = self.conv_1(self.norm_1(x, layout, leak=LEAK)).add_(shortcut)
        return x if self.noise_1 is None else self.noise_1(x, offsets)


class SPADEGenerator(nn.Module):
    def __init__(
        self,
        num_classes: int,
        height: int,  # of the image; height and width are multiples of 2^upsamplings
        width: int,
        channels: int = 64,  # SPADE's ngf
        upsamplings: int = 5,  # doublings from the start to the image: 5, 6 or 7 (see UPSAMPLINGS)
        hidden: int = 128,  # width of the modulations' hidden layer
        style_dim: int = 0,  # > 0: start from a style vector instead of from the layout
        interpolation: str = "nearest",  # of features where they are doubled, as published; one of INTERPOLATIONS
        noise: bool = False,  # TextureNoise in every block
        moving_noise: bool = False,  # which begins elsewhere for each sample in training
        gain: float = 0.02,  # of the initial weights: nothing that a trained generator would need to know
        plain: bool = False,  # operations as PyTorch has them, for exports and to compare with; one process
        neighbourhoods_on: tuple[str, ...] = ("cpu",),  # types of devices where hard layouts become neighbourhoods
    ):
        super().__init__()
        self.arguments = dict(
            num_classes=num_classes,
            height=height,
            width=width,
            channels=channels,
            upsamplings=upsamplings,
            hidden=hidden,
            style_dim=style_dim,
            interpolation=interpolation,
            noise=noise,
            moving_noise=moving_noise,
        )
        if upsamplings not in UPSAMPLINGS.values() or height % 2**upsamplings or width % 2**upsamplings:
            raise ValueError(f"{upsamplings} upsamplings do not lead to an image of {height}x{width}")
        self.num_classes, self.hidden = num_classes, hidden
        self.plain, self.neighbourhoods_on = plain, neighbourhoods_on
        self.upsamplings, self.style_dim = upsamplings, style_dim
        self.start_size = (height >> upsamplings, width >> upsamplings)
        start = 16 * channels
        if style_dim:
            self.stem = nn.Linear(style_dim, start * self.start_size[0] * self.start_size[1])
        else:
            self.stem = nn.Conv2d(num_classes, start, 3, padding=1)

        def block(in_multiple, out_multiple, doublings):
            widths = in_multiple * channels // 2, out_multiple * channels // 2
            noise_size = [side << doublings for side in self.start_size] if noise else None
            return ResidualBlock(*widths, num_classes, hidden, interpolation, noise_size, plain)

        after = 1 + (upsamplings > 5)  # doublings, before `ups`
        self.head, self.mid_0, self.mid_1 = block(32, 32, 0), block(32, 32, 1), block(32, 32, after)
        widths = [32, 16, 8, 4, 2] + ([1] if upsamplings == 7 else [])  # in halves of `channels`
        pairs = zip(widths, widths[1:], strict=False)
        self.ups = nn.ModuleList([block(a, b, after + i) for i, (a, b) in enumerate(pairs, 1)])
        self.to_rgb = nn.Conv2d(widths[-1] * channels // 2, 3, 3, padding=1)
        initialise(self, gain)

    def forward(self, semantics, norm_semantics=None, style=None, offsets=None):
        """Layout -> image [N,3,H,W] in [-1,1], float32 also under autocast.

        semantics, norm_semantics: float [N,C,h,w] or hard labels uint8 [N,1,h,w], of any size. The first feeds the
        stem, the second the normalisations (default: the first too). Where the layout carries a gradient, the caller
        decides by the second which way it takes: SB-GAN's "stem" gradient passes labels or a detached copy.
        style: float [N,style_dim], needed exactly if the generator has a style_dim. offsets: see `TextureNoise`, in
        training alone.
        """
        norm_semantics = semantics if norm_semantics is None else norm_semantics
        if self.plain and norm_semantics.dtype == torch.uint8:
            norm_semantics = one_hot(norm_semantics, self.num_classes)
        h, w = self.start_size
        if self.style_dim:
            x = self.stem(style).unflatten(1, (-1, h, w))  # [N,16*channels,h,w]
        else:
            x = self.stem(semantics_at(semantics, h, w, self.num_classes))  # [N,16*channels,h,w]

        blocks = [(self.head, False), (self.mid_0, True), (self.mid_1, self.upsamplings > 5)]
        blocks += [(block, True) for block in self.ups]
        layout = self.layout_at(norm_semantics, h, w)
        for block, upsample in blocks:
            if upsample:
                h, w = 2 * h, 2 * w
                layout = self.layout_at(norm_semantics, h, w)  # once per resolution
            x = block(x, layout, upsample, offsets)
        return torch.tanh(widened(self.to_rgb(F.leaky_relu_(x, LEAK))))

    def draw_offsets(self, num: int, device):
        """Draws where each sample's noise begins while the generator learns, float [num,2]; None where it stays."""
        return torch.rand(num, 2, device=device) if self.training and self.arguments["moving_noise"] else None

    def layout_at(self, semantics, height, width):
        """The input that all normalisations of one resolution share; plain ones resize the semantics for themselves."""
        if self.plain:
            return semantics
        return layout_at(semantics, height, width, self.num_classes, self.hidden, self.neighbourhoods_on)


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches; returns every layer's output, the last being the score map."""

    def __init__(self, in_channels, channels, strides):
        super().__init__()
        widths = [min(512, channels << i) for i in range(len(strides))]
        self.first = nn.Conv2d(in_channels, widths[0], 4, strides[0], padding=2)
        self.middle = nn.ModuleList(
            [
                SpectralConv2d(a, b, 4, stride, padding=2, bias=False)
                for a, b, stride in zip(widths, widths[1:], strides[1:], strict=False)
            ]
        )
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=2)

    def forward(self, x):
        features = [F.leaky_relu_(self.first(x), LEAK)]
        for conv in self.middle:
            features.append(F.leaky_relu_(instance_norm(conv(features[-1])), LEAK))
        return [*features, self.last(features[-1])]


class MultiscaleDiscriminator(nn.Module):
    """Patch discriminators on the input and on its halved copies (Wang et al., *pix2pixHD*, CVPR 2018, section 3.2)."""

    def __init__(
        self,
        in_channels: int,  # classes + 3, or 3 for the unconditional one
        channels: int = 64,  # SPADE's ndf
        strides: tuple[int, ...] = (2, 2, 2, 1),  # SPADE as published; SB-GAN's released networks have (2, 2, 2)
        scales: int = 2,
    ):
        super().__init__()
        self.arguments = dict(in_channels=in_channels, channels=channels, strides=tuple(strides), scales=scales)
        self.scales = nn.ModuleList([PatchDiscriminator(in_channels, channels, strides) for _ in range(scales)])
        initialise(self)

    def forward(self, x):
        """[N,in,H,W] -> per scale, finest first, the list of its layers' outputs."""
        results = []
        for i, patch_discriminator in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            results.append(patch_discriminator(x))
        return results


def memory_format(images):
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def discriminate(discriminator, fake, real, semantics=None):
    """Runs fake and real images in one batch; returns the discriminator's outputs for each.

    fake, real: [N,3,H,W]; semantics: one-hot [N,C,H,W] of both, None for an unconditional discriminator. One batch
    means one power iteration per loss, as in SPADE.
    """
    images = torch.cat([fake, real])  # [2N,3,H,W]
    if semantics is not None:
        # In the images' order in memory: what is joined of two is in none, and each convolution would sort it anew.
        semantics = semantics.contiguous(memory_format=memory_format(images))
        images = torch.cat([torch.cat([semantics, semantics]), images], 1)  # [2N,C+3,H,W]
    outputs = discriminator(images)
    n = len(fake)
    return [[f[:n] for f in scale] for scale in outputs], [[f[n:] for f in scale] for scale in outputs]


class StyleEncoder(nn.Module):
    """Image -> mean and log-variance of its style, both [N,style_dim] (Park et al. 2019, appendix A)."""

    SIZE = 256  # images are resized to this square first

    def __init__(self, channels: int = 64, style_dim: int = 256, layers: int = 6):
        super().__init__()
        self.arguments = dict(channels=channels, style_dim=style_dim, layers=layers)
        widths = [3] + [min(8, 1 << i) * channels for i in range(layers)]
        self.convs = nn.ModuleList(
            [SpectralConv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)]
        )
        side = self.SIZE >> layers
        self.mean = nn.Linear(widths[-1] * side * side, style_dim)
        self.log_variance = nn.Linear(widths[-1] * side * side, style_dim)
        initialise(self)

    def forward(self, image):
        """image: float [N,3,H,W] in [-1,1]."""
        x = image
        if x.shape[-2:] != (self.SIZE, self.SIZE):
            x = F.interpolate(x, (self.SIZE, self.SIZE), mode="bilinear", align_corners=False)
        for conv in self.convs:
            x = F.leaky_relu_(instance_norm(conv(x)), LEAK)
        x = x.flatten(1)
        return widened(self.mean(x)), widened(self.log_variance(x))


def sample_style(mean, log_variance, noise):
    """Reparameterised draw (Kingma & Welling, 2014), all [N,style_dim]; noise ~ N(0, I)."""
    return mean + noise * torch.exp(0.5 * log_variance)


MULTIPLES = (2, 2, 4, 4, 8, 8)  # of `ndf`: the published widths are those of 64


class Block(nn.Module):
    """Two convolutions beside a shortcut, [N,in,h,w] -> [N,out,h,w]."""

    def __init__(self, in_channels, out_channels, activate):
        super().__init__()
        self.conv_0 = SpectralConv2d(in_channels, out_channels, 3, padding=1)
        self.conv_1 = SpectralConv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = SpectralConv2d(in_channels, out_channels, 1, bias=False)
        self.activate = activate  # everything but an image

    def forward(self, x):
        y = self.conv_0(F.leaky_relu(x, LEAK) if self.activate else x)
        return self.conv_1(F.leaky_relu_(y, LEAK)) + self.shortcut(x)


class SegmentationCritic(nn.Module):
    """Encoder, and decoder with skips: image [N,3,H,W] -> logits [N,C+1,H,W] of the classes and, last, of "fake"."""

    def __init__(
        self,
        num_classes: int,
        widths: tuple[int, ...] = (128, 128, 256, 256, 512, 512),  # of the blocks down, each of which halves the image
    ):
        super().__init__()
        self.arguments = dict(num_classes=num_classes, widths=tuple(widths))
        above = [3, *widths]
        self.down = nn.ModuleList([Block(above[i], width, activate=i > 0) for i, width in enumerate(widths)])
        up = [*widths[-2::-1], widths[0]]  # from the coarsest block on
        skips = [0, *widths[-2::-1]]
        below = [widths[-1], *up]
        self.up = nn.ModuleList([Block(a + s, b, True) for a, s, b in zip(below, skips, up, strict=False)])
        self.last = SpectralConv2d(up[-1], num_classes + 1, 1)
        initialise(self, gain=1.0)

    def forward(self, x):
        skips = []
        for block in self.down:
            x = F.avg_pool2d(block(x), 2)
            skips.append(x)
        x = skips.pop()
        for i, block in enumerate(self.up):
            x = torch.cat([x, skips.pop()], 1) if i else x
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.last(F.leaky_relu_(x, LEAK))


def segmentation_widths(ndf: int, height: int) -> tuple[int, ...]:
    """Widths as published for ndf 64 and images of 64 rows and more; as many blocks as the image can be halved."""
    halvings = (height & -height).bit_length() - 1
    return tuple(multiple * ndf for multiple in MULTIPLES[:halvings])


def conditional_critic(**arguments):
    """The network of stage 2's "discriminator": either kind, told apart by what it is built with."""
    kind = SegmentationCritic if "widths" in arguments else MultiscaleDiscriminator
    return kind(**arguments)


def without_semantics(critic: MultiscaleDiscriminator) -> MultiscaleDiscriminator:
    """A critic of images alone, [N,3,H,W], with a conditional one's weights, those that see classes left out."""
    unconditional = MultiscaleDiscriminator(**critic.arguments | {"in_channels": 3})
    first = {name: w[:, -3:] for name, w in critic.state_dict().items() if name.endswith(".first.weight")}
    unconditional.load_state_dict(critic.state_dict() | first)
    return unconditional
