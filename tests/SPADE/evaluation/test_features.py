"""A user's own feature network, and what is wrong with one."""

import pytest
import torch

from datasets.errors import UserError
from SPADE.evaluation.features import Extractor


class Moments(torch.nn.Module):
    def forward(self, images):
        x = images.float()
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], 1)


class Flat(torch.nn.Module):
    def forward(self, images):
        return images.float().mean()


@pytest.fixture
def images():
    return torch.randint(256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Infinite(torch.nn.Module):
    def forward(self, images):
        return images.float().mean(dim=(2, 3)) / 0


def test_torchscript_and_exported_programs(images, tmp_path):
    torch.jit.script(Moments()).save(str(tmp_path / "scripted.pt"))
    batch = {"images": {0: torch.export.Dim("batch", min=1)}}
    torch.export.save(torch.export.export(Moments(), (images,), dynamic_shapes=batch), tmp_path / "exported.pt2")
    for name in ("scripted.pt", "exported.pt2"):
        found = Extractor(tmp_path / name, standard=False).features(images, batch_size=2)
        assert torch.allclose(found, Moments()(images)), name


def test_a_file_that_is_no_network(images, tmp_path):
    for name in ("noise.pt", "noise.pt2"):
        (tmp_path / name).write_bytes(b"noise")
        with pytest.raises(UserError, match=f"--feature_extractor .*{name} can be loaded neither"):
            Extractor(tmp_path / name, standard=False).features(images)


def test_a_network_of_another_form(images, tmp_path):
    torch.jit.script(Flat()).save(str(tmp_path / "flat.pt"))
    with pytest.raises(UserError, match=r"gives \[\] for 5 images; it must give \[N,D\]"):
        Extractor(tmp_path / "flat.pt", standard=False).features(images)
    torch.jit.script(torch.nn.Conv2d(4, 4, 1)).save(str(tmp_path / "conv.pt"))
    with pytest.raises(UserError, match=r"conv.pt fails on uint8 images \[5, 3, 8, 8\]"):
        Extractor(tmp_path / "conv.pt", standard=False).features(images)
    torch.jit.script(Infinite()).save(str(tmp_path / "infinite.pt"))
    with pytest.raises(UserError, match="infinite.pt gives features that are not finite"):
        Extractor(tmp_path / "infinite.pt", standard=False).features(images)
