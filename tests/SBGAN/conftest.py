import numpy as np
import pytest
import torch
from PIL import Image

from SBGAN import evaluate, generate, train_progressive
from SBGAN.model import FINETUNE
from SBGAN.networks import ImageGenerator, LayoutGenerator
from SPADE.engine import checkpoint as checkpoints
from SPADE.engine.checkpoint import data_record
from SPADE.modulation import initialise
from SPADE.networks import SPADEGenerator, StyleEncoder

BASELINE = ["--no_fid", "--max_dim", "16", "--epochs", "1", "--batch_size", "8", "--fmap_max", "8", "--latent_dim", "8"]


def places(store, folder, name):
    return ["--store", str(store), "--weights", str(folder / "weights"), "--name", name, "--device", "cpu"]


def run(path, out, *flags):
    """SBGAN.generate of a checkpoint."""
    generate.main([str(word) for word in ("--checkpoint", path, "--out", out, "--device", "cpu", *flags)])


def refused(capsys, main, arguments):
    """The one line of a command that ends with status 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ")
    return line


def run_refused(capsys, checkpoint, out, *flags):
    """The last line of SBGAN.generate where it ends with status 2."""
    with pytest.raises(SystemExit) as stop:
        run(checkpoint, out, *flags)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and error.startswith("error: ")
    return error


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


class Untrained:
    """Checkpoints of small networks with random weights, and the store that they say they were trained on."""

    def __init__(self, store_path, folder):
        from datasets.packed import open_store

        self.folder, self.store_path, self.store = folder, store_path, open_store(store_path)

    def save(self, stage, name, networks, averages=None, **more):
        averages = averages or {}
        content = {
            "config": {"store": str(self.store_path)},
            "data": data_record(self.store),
            "images_seen": 100,
            "networks": {key: checkpoints.record(net, averages.get(key)) for key, net in networks.items()},
        }
        path = self.folder / "weights" / stage / name
        checkpoints.save(path, stage, content | more)
        return path

    def layout_generator(self):
        return LayoutGenerator(self.store.label_space.num_classes, 2, 16, 8, fmap_max=16)

    def spade_generator(self, style_dim=0):
        store = self.store
        generator = SPADEGenerator(store.label_space.num_classes, store.height, store.width, 4, 5, 8, style_dim)
        return initialise(generator, gain=1.2)  # images that differ: at SPADE's 0.02 all are grey

    def image_generator(self):
        return ImageGenerator(3, 2, 16, 8, fmap_max=16)

    def joined(self, style=False, name="finetune_1.pt"):
        networks = {
            "layout_generator": self.layout_generator(),
            "spade_generator": self.spade_generator(8 if style else 0),
        }
        networks |= {"encoder": StyleEncoder(2, 8)} if style else {}
        return self.save(FINETUNE.name, name, networks, origin={"layout": "gone", "spade": "gone"}, epoch=1)

    def layout(self):
        return self.save("layout_gan", "layout_1.pt", {"generator": self.layout_generator()}, resolution=16, alpha=1.0)

    def spade(self, style=False, name="spade_1.pt"):
        return self.save("spade", name, {"generator": self.spade_generator(8 if style else 0)}, epoch=1)

    def image(self):
        return self.save("image_gan", "image_1.pt", {"generator": self.image_generator()})


@pytest.fixture(scope="session")
def untrained(toy_store, tmp_path_factory):
    torch.manual_seed(0)
    return Untrained(toy_store, tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def checkpoint(untrained):
    torch.manual_seed(1)
    return untrained.joined(name="finetune_2.pt")


@pytest.fixture(scope="session")
def drawn_from(untrained):
    return untrained.joined(name="finetune_9.pt")


@pytest.fixture(scope="session")
def pairs(drawn_from, tmp_path_factory):
    """A folder that SBGAN.generate wrote."""
    out = tmp_path_factory.mktemp("pairs") / "out"
    run(drawn_from, out, "--num", 6)
    return out


@pytest.fixture(scope="session")
def baseline(toy_store, tmp_path_factory):
    """Folder of an RGB baseline's weights, logs and results."""
    folder = tmp_path_factory.mktemp("baseline")
    at = places(toy_store, folder, "toy_image")
    train_progressive.main([*at, "--logs", str(folder / "logs"), *BASELINE, "--num_eval", "8"])
    evaluate.main([*at, "--results", str(folder / "results"), "--num_eval", "8", "--no_fid"])
    return folder


class Moments(torch.nn.Module):
    def forward(self, images):
        x = images.float()
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], 1)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """The file of a feature network, and no features that were kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "moments.pt"
    torch.jit.script(Moments()).save(str(path))
    return path
