import pytest
import torch

from SBGAN.networks import ImageGenerator, LayoutGenerator
from SBGAN.stages import FINETUNE
from SPADE.engine import checkpoint
from SPADE.engine.checkpoint import data_record
from SPADE.modulation import initialise
from SPADE.networks import SPADEGenerator, StyleEncoder


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
            "networks": {key: checkpoint.record(net, averages.get(key)) for key, net in networks.items()},
        }
        path = self.folder / "weights" / stage / name
        checkpoint.save(path, stage, content | more)
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
