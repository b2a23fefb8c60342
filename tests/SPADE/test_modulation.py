"""All forms of the modulation against its equation, and the spectral convolution against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import spectral_norm

from datasets.labels import one_hot
from datasets.packed import open_store
from datasets.reader import layouts_in_order
from SPADE.engine.device import place
from SPADE.modulation import SPADENorm, SpectralConv2d, initialise, layout_at, plain_twin
from SPADE.networks import ResidualBlock, SPADEGenerator
from SPADE.ops import neighbourhoods
from SPADE.ops.affine import DenseAffine
from SPADE.ops.neighbourhoods import Neighbourhoods


@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (4, 2, 2)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("side", [2, 20])
@pytest.mark.parametrize("train", [False, True])
def test_spectral_convolution(side, bias, train, kernel, stride, padding):
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 6, kernel, stride, padding, bias).double()
    torch.nn.init.normal_(layer.weight)
    layer.iterate(2000)  # PyTorch begins with vectors of its own
    if bias:
        torch.nn.init.normal_(layer.bias)
    own = torch.nn.Conv2d(4, 6, kernel, stride, padding, bias=bias).double()
    own.load_state_dict({name: p.detach() for name, p in layer.named_parameters()})
    own = spectral_norm(own, n_power_iterations=1)
    for _ in range(2000):
        own(torch.zeros(1, 4, 4, 4, dtype=torch.float64))
    networks = layer.train(train), own.train(train)

    x = torch.randn(2, 4, side, side, dtype=torch.float64, requires_grad=True)
    found = []
    for network in networks:
        y = network(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        parameters = sorted(network.named_parameters(), key=lambda entry: "bias" not in entry[0])
        found.append([y, *torch.autograd.grad((y * weights).sum(), [x, *(p for _, p in parameters)])])
    assert (y.numel() < layer.weight.numel()) == (side == 2)  # both are covered
    for ours, pytorchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, pytorchs, rtol=1e-9, atol=1e-12)


CLASSES, HEIGHT, WIDTH = 12, 16, 32


def random_labels(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, CLASSES, shape, generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def layouts(toy_store):
    """Name -> labels uint8 [N,1,16,32]."""
    split = open_store(toy_store)["train"]
    street = layouts_in_order(split, 0, 8, split.height)[:, :, ::2, ::2].contiguous()
    return {
        "street": street[:1],
        "eight streets": street,
        "street and noise": torch.cat([street[1:3], random_labels(1, 1, HEIGHT, WIDTH)]),
        "noise": random_labels(2, 1, HEIGHT, WIDTH),
        "one class": torch.full((1, 1, HEIGHT, WIDTH), 5, dtype=torch.uint8),
        "columns": (torch.arange(WIDTH) % 2).to(torch.uint8).expand(2, 1, HEIGHT, WIDTH).contiguous(),
        "rows": (torch.arange(HEIGHT)[:, None] % 2).to(torch.uint8).expand(1, 1, HEIGHT, WIDTH).contiguous(),
        "blocks": random_labels(3, 1, 4, 8).repeat_interleave(4, 2).repeat_interleave(4, 3),
        "enlarged twice": random_labels(3, 1, HEIGHT // 2, WIDTH // 2),
    }


NAMES = ["street", "eight streets", "street and noise", "noise", "one class", "columns", "rows", "blocks"]


@pytest.fixture(params=["neighbourhoods", "convolutions"])
def form(request, monkeypatch):
    """Makes one of both forms the one that is taken."""
    exact = request.param == "neighbourhoods"
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: exact)
    return Neighbourhoods if exact else torch.Tensor


class Published(torch.nn.Module):
    """Park et al. 2019, eq. 1, with a layer for each of its symbols. The weights are copies."""

    def __init__(self, norm: SPADENorm):
        super().__init__()
        (hidden, classes), channels = norm.shared.weight.shape[:2], len(norm.norm.running_mean)
        self.norm = torch.nn.BatchNorm2d(channels, affine=False)
        self.shared = torch.nn.Conv2d(classes, hidden, 3, padding=1)
        self.gamma, self.beta = (torch.nn.Conv2d(hidden, channels, 3, padding=1) for _ in range(2))
        self.to(norm.shared.weight.dtype)
        state = norm.state_dict()
        for leaf in ("weight", "bias"):
            state["gamma." + leaf], state["beta." + leaf] = state.pop("gamma_beta." + leaf).chunk(2)
        self.load_state_dict(state | {"norm.num_batches_tracked": torch.tensor(0)})

    def forward(self, x, semantics):
        hidden = F.relu(self.shared(semantics))
        return self.norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)


def norms(dtype, channels=6, hidden=16, plain=False):
    """A normalisation with weights of every size, and its equation."""
    torch.manual_seed(1)
    norm = SPADENorm(channels, CLASSES, hidden, plain).to(dtype)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    norm.norm.running_mean.normal_()
    norm.norm.running_var.uniform_(1, 2)
    published = Published(norm)
    return place(norm, "cpu"), published


def joined(published: Published, name: str):
    """Gradient of the product's gamma_beta out of the equation's two convolutions'."""
    return torch.cat([getattr(getattr(published, part), name).grad for part in ("gamma", "beta")])


def check(found, wanted, tolerance):
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error <= tolerance, f"off by {error:.1e}"


def compare(dtype, tolerance, labels, form, upsample=False, leak=1.0, train=True, plain=False):
    norm, published = (network.train(train) for network in norms(dtype, plain=plain))
    n = len(labels)
    size = (HEIGHT // 2, WIDTH // 2) if upsample else (HEIGHT, WIDTH)
    x = (torch.randn(n, 6, *size, dtype=dtype) * torch.arange(1, 7)[:, None, None] + 2).requires_grad_()
    weights = torch.randn(n, 6, HEIGHT, WIDTH, dtype=dtype)

    layout = layout_at(labels, HEIGHT, WIDTH, CLASSES, 16)
    assert isinstance(layout, form)
    layout = layout.to(dtype) if isinstance(layout, torch.Tensor) else layout
    y = norm(x, layout, upsample, leak)
    (of_x,) = torch.autograd.grad((y * weights).sum(), x, retain_graph=True)
    (y * weights).sum().backward()

    twin = x.detach().requires_grad_()
    wanted = published(
        F.interpolate(twin, scale_factor=2) if upsample else twin,
        F.interpolate(one_hot(labels, CLASSES).to(dtype), (HEIGHT, WIDTH)),
    )
    wanted = F.leaky_relu(wanted, leak)
    (wanted * weights).sum().backward()

    check(y, wanted, tolerance)
    check(of_x, twin.grad, tolerance)
    for name in ("weight", "bias"):
        check(getattr(norm.gamma_beta, name).grad, joined(published, name), tolerance)
        check(getattr(norm.shared, name).grad, getattr(published.shared, name).grad, tolerance)
    check(norm.norm.running_mean, published.norm.running_mean, tolerance)
    check(norm.norm.running_var, published.norm.running_var, tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(form, layouts, name):
    compare(torch.float64, 1e-12, layouts[name], form)
    compare(torch.float32, 1e-5, layouts[name], form)


@pytest.mark.parametrize("name", ["street and noise", "enlarged twice"])
def test_with_upsampling_and_leaky_relu(form, layouts, name):
    compare(torch.float64, 1e-12, layouts[name], form, upsample=True, leak=0.2)


def test_in_evaluation_mode(form, layouts):
    compare(torch.float64, 1e-12, layouts["street"], form, upsample=True, leak=0.2, train=False)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("upsample", [False, True])
def test_the_plain_form(layouts, upsample, train, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: False)
    compare(torch.float64, 1e-12, layouts["enlarged twice"], torch.Tensor, upsample, 0.2, train, plain=True)


@pytest.mark.parametrize("pixels", [1, 96, 130])
def test_chunks_of_any_size_give_the_same(form, layouts, pixels, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "CHUNK_PIXELS", pixels)
    compare(torch.float64, 1e-12, layouts["street and noise"], form)
    compare(torch.float64, 1e-12, layouts["street and noise"], form, upsample=True)


@pytest.mark.parametrize("own_moments", [False, True])
@pytest.mark.parametrize("upsample", [False, True])
def test_the_gradient_is_that_of_finite_differences(own_moments, upsample):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    modulation = torch.randn(2 * 4 * (4 if upsample else 1), 6, dtype=torch.float64, requires_grad=True)
    mean, variance = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 1

    def function(x, modulation):
        if own_moments:
            moments = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), unbiased=False)
        else:
            moments = mean, variance
        return DenseAffine.apply(x, modulation, *moments, upsample, 0.2, own_moments)

    assert torch.autograd.gradcheck(function, (x, modulation))


def test_a_gradient_reaches_semantics_that_carry_one():
    norm, published = norms(torch.float64)
    semantics = one_hot(random_labels(2, 1, HEIGHT, WIDTH), CLASSES).double()
    twins = [semantics.clone().requires_grad_() for _ in range(2)]
    x, weights = torch.randn(2, 2, 6, HEIGHT, WIDTH, dtype=torch.float64)
    (norm(x, layout_at(twins[0], HEIGHT, WIDTH, CLASSES, 16)) * weights).sum().backward()
    (published(x, twins[1]) * weights).sum().backward()
    check(twins[0].grad, twins[1].grad, 1e-12)


def test_layouts_are_resized_before_anything_else():
    labels = random_labels(1, 1, 2 * HEIGHT, 2 * WIDTH)
    found = layout_at(labels, HEIGHT, WIDTH, CLASSES, 16)
    assert torch.equal(found, one_hot(labels[:, :, ::2, ::2], CLASSES))


def generator_gradients(generator, labels, norm_semantics, weights):
    """Image, and gradients of the semantics and of all parameters."""
    semantics = one_hot(labels, CLASSES).to(weights).requires_grad_()
    image = generator(semantics, norm_semantics)
    (image * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in generator.named_parameters()}
    return image.detach(), semantics.grad, gradients


@pytest.mark.parametrize(
    "upsamplings, interpolation, noise", [(5, "nearest", False), (6, "nearest", True), (5, "bilinear", True)]
)
def test_the_whole_generator(form, toy_store, upsamplings, interpolation, noise):
    """Hard labels for the normalisations, a gradient through the stem alone."""
    split = open_store(toy_store)["train"]
    labels = layouts_in_order(split, 0, 2, split.height)  # [2,1,32,64]
    torch.manual_seed(2)
    height, width = 64, 128  # of the image: labels are enlarged for the last blocks
    how = dict(channels=2, upsamplings=upsamplings, hidden=8, interpolation=interpolation, noise=noise)
    generator = SPADEGenerator(CLASSES, height, width, **how).double()
    for parameter in generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    plain = plain_twin(generator)
    weights = torch.randn(2, 3, height, width, dtype=torch.float64)
    semantics = one_hot(labels, CLASSES).double()
    norm_semantics = labels if form is Neighbourhoods else semantics

    found = generator_gradients(place(generator, "cpu"), labels, norm_semantics, weights)
    wanted = generator_gradients(plain, labels, semantics, weights)
    check(found[0], wanted[0], 1e-10)
    check(found[1], wanted[1], 1e-10)
    assert found[2].keys() == wanted[2].keys()
    largest = max(gradient.abs().max() for gradient in wanted[2].values())
    for name, gradient in wanted[2].items():
        if name.endswith("weight"):
            check(found[2][name], gradient, 1e-9)
        else:  # before a batch norm the gradient of a bias is 0 but for rounding
            assert (found[2][name] - gradient).abs().max() <= 1e-10 * largest, name

    plain_buffers = dict(plain.named_buffers())
    for name, buffer in generator.named_buffers():
        check(buffer, plain_buffers[name], 1e-10)
    with torch.no_grad():
        image = generator.eval()(semantics, norm_semantics)
        check(image, plain.eval()(semantics), 1e-10)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_neighbourhoods_on_cuda(monkeypatch, layouts):
    monkeypatch.setattr(neighbourhoods, "worthwhile", lambda *arguments: True)
    for name, labels in layouts.items():
        results = []
        for device in ("cpu", "cuda"):
            norm, _ = norms(torch.float64)
            norm = place(norm, device)
            torch.manual_seed(3)
            x = torch.randn(len(labels), 6, HEIGHT // 2, WIDTH // 2, dtype=torch.float64).to(device).requires_grad_()
            layout = layout_at(labels.to(device), HEIGHT, WIDTH, CLASSES, 16, neighbourhoods_on=(device,))
            y = norm(x, layout, True, 0.2)
            y.square().sum().backward()
            results.append([t.detach().cpu() for t in (y, x.grad, *(p.grad for p in norm.parameters()))])
        for a, b in zip(*results, strict=True):
            assert (a - b).abs().max() <= 1e-10 * b.abs().max(), name


@pytest.mark.parametrize("learned_shortcut", [False, True])
def test_interpolation_within_a_block(layouts, learned_shortcut):
    """As if the features had been doubled before the block, by weights that bilinear interpolation has."""
    labels = layouts["street"]  # [1,1,16,32]
    torch.manual_seed(3)
    block = ResidualBlock(3, 4 if learned_shortcut else 3, CLASSES, 5, "bilinear", None, plain=False)
    block = initialise(block, gain=1.0).double()  # spectral weights are otherwise what was in memory
    layout = one_hot(labels, CLASSES).double()
    x = torch.randn(1, 3, HEIGHT // 2, WIDTH // 2, dtype=torch.float64)
    padded, doubled = F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.empty(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    for i in range(HEIGHT):
        for j in range(WIDTH):
            y, z = (i + 1) // 2, (j + 1) // 2  # upper left of the four in the padded map; the nearer ones weigh 3/4
            vertical, horizontal = (
                torch.tensor([1 - a, a]).double() for a in ((0.75, 0.25)[i % 2], (0.75, 0.25)[j % 2])
            )
            corners = padded[0, :, y : y + 2, z : z + 2]
            doubled[0, :, i, j] = torch.einsum("krc,r,c->k", corners, vertical, horizontal)
    block.eval()
    with torch.no_grad():
        check(block(x, layout, upsample=True), block(doubled, layout, upsample=False), 1e-12)


def test_noise_is_added_to_both_convolutions_outputs(layouts):
    torch.manual_seed(4)
    block = ResidualBlock(3, 4, CLASSES, 5, "nearest", (HEIGHT, WIDTH), plain=False)
    block = initialise(block, gain=1.0).double().eval()
    layout = one_hot(layouts["eight streets"][:2], CLASSES).double()
    x = torch.randn(2, 3, HEIGHT, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        without = block(x, layout, upsample=False)  # its strength is 0 at first
        block.noise_1.strength[2] = 0.5
        changed = block(x, layout, upsample=False) - without
        check(changed[:, 2], 0.5 * block.noise_1.noise[:, 0].expand(2, -1, -1), 1e-12)
        assert changed[:, [0, 1, 3]].abs().max() == 0

        block.noise_1.strength[:], block.noise_0.strength[1] = 0, 0.5
        hidden = block.conv_0(block.norm_0(x, layout, leak=0.2))
        hidden[:, 1] += 0.5 * block.noise_0.noise[0, 0]
        wanted = block.conv_1(block.norm_1(hidden, layout, leak=0.2)) + block.conv_s(block.norm_s(x, layout))
        check(block(x, layout, upsample=False), wanted, 1e-12)
    block.noise_1.strength.data[2] = 0.5
    moved = block(x, layout, upsample=False, offsets=torch.tensor([[0.0, 0.0], [0.5, 0.75]]))  # of the second sample
    check(moved[0], block(x, layout, upsample=False)[0], 1e-12)
    for noise in (block.noise_0, block.noise_1):
        noise.noise = noise.noise.roll((-HEIGHT // 2, -(WIDTH * 3 // 4)), (2, 3))
    check(moved[1], block(x, layout, upsample=False)[1], 1e-12)
    assert (moved[0] - block(x, layout, upsample=False)[0]).abs().max() > 0.1
    block.train()(x, layout, upsample=False).square().sum().backward()
    assert block.noise_0.strength.grad.abs().min() > 0 and block.noise_1.strength.grad.abs().min() > 0
