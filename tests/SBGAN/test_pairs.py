"""Pairs to train on: which a batch holds, which a segmentation network agrees with, in which form they are written."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.files import read_label_pixels
from datasets.labels import load_space
from SBGAN import generate
from SBGAN.drawing.files import FORMATS, Files, Writer
from SBGAN.model import Model
from SBGAN.pairs import Mixture, PairsFolder, agreements, from_model, usual_surprise
from SPADE.pretrained import torchvision
from SPADE.segmenter import make_segmenter


class Halves(torch.nn.Module):
    """Sees the class of a pixel's red value, as logits that are the surer the more green there is."""

    def forward(self, images):
        seen = torch.nn.functional.one_hot(images[:, 0].long() % 11, 11).permute(0, 3, 1, 2)
        return seen * images[:, 1:2].float() / 25


@pytest.fixture
def halves(tmp_path):
    torch.jit.script(Halves()).save(str(tmp_path / "halves.pt"))
    return tmp_path / "halves.pt"


@pytest.fixture(scope="module")
def joined(untrained):
    return untrained.joined(name="finetune_8.pt")


def run(checkpoint, out, *flags):
    words = ["--checkpoint", checkpoint, "--out", out, "--num", 12, "--device", "cpu", *flags]
    generate.main([str(word) for word in words])
    return sorted(path.name for path in (out / "images").iterdir())


def test_agreement_pixel_by_pixel(untrained):
    space = untrained.store.label_space
    segmenter = make_segmenter(Halves(), range(11), space, "halves", "")
    layouts = torch.randint(0, 4, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = torch.where(torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.6, layouts, 9)
    images = seen.repeat(1, 3, 1, 1)
    images[:, 1] = 250
    of_pixels, of_classes = (agreements(segmenter, layouts, images, by_class, "cpu") for by_class in (False, True))
    for i in range(5):
        right = (layouts[i] == seen[i]).double()
        assert of_pixels[i] == pytest.approx(right.mean().item())
        shares = [right[layouts[i] == c].mean().item() for c in layouts[i].unique()]
        assert of_classes[i] == pytest.approx(min(shares))


def test_what_is_kept(joined, halves, tmp_path, capsys):
    everything = run(joined, tmp_path / "all")
    layouts = {name: read_label_pixels(tmp_path / "all/layouts" / name)[0] for name in everything}
    images = {name: np.asarray(Image.open(tmp_path / "all/images" / name)) for name in everything}
    shares = {name: (images[name][..., 0] % 11 == layouts[name]).mean() for name in everything}
    least = sorted(shares.values())[8]
    capsys.readouterr()
    kept = run(joined, tmp_path / "kept", "--segmenter", halves, "--keep_aligned", least - 1e-6)
    assert kept == [name for name in everything if shares[name] >= least] and 0 < len(kept) < 12
    assert f"{len(kept)} of 12 samples kept ({100 * len(kept) / 12:.0f} %)" in capsys.readouterr().out
    for name in kept:
        for kind in ("images", "layouts"):
            assert (tmp_path / "kept" / kind / name).read_bytes() == (tmp_path / "all" / kind / name).read_bytes()


def test_what_is_doubted(joined, halves, tmp_path, untrained):
    flags = ["--segmenter", halves, "--doubtful", "unknown", "--doubtful_share", 0.2]
    names = run(joined, tmp_path / "doubted", *flags)
    run(joined, tmp_path / "all")
    before, after = (
        np.stack([read_label_pixels(tmp_path / kind / "layouts" / name)[0] for name in names])
        for kind in ("all", "doubted")
    )
    doubted = after == 255  # the table has no unknown class
    assert (before == after)[~doubted].all() and doubted.any()
    images = np.stack([np.asarray(Image.open(tmp_path / "all/images" / name)) for name in names])
    logits = Halves()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    surprise = torch.nn.functional.cross_entropy(logits, torch.from_numpy(before).long(), reduction="none").numpy()
    for c in np.unique(before):
        of_class = before == c
        assert doubted[of_class].mean() <= 0.2 + 1 / of_class.sum()
        if doubted[of_class].any():
            assert surprise[of_class & doubted].min() >= surprise[of_class & ~doubted].max()
    assert len(PairsFolder(tmp_path / "doubted", untrained.store)) == 12  # and it can be learnt from


def test_surprise_that_is_usual(untrained):
    segmenter = make_segmenter(Halves(), range(11), untrained.store.label_space, "halves", "")
    images = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    images[0, 1] = torch.arange(20).view(4, 5)  # all see class 0, surer and surer
    usual = usual_surprise(segmenter, torch.zeros(1, 1, 4, 5, dtype=torch.uint8), images, 0.25, "cpu")
    sure = torch.arange(20) / 25
    wanted = torch.nn.functional.cross_entropy(
        torch.nn.functional.one_hot(torch.zeros(20, dtype=torch.long), 11) * sure[:, None],
        torch.zeros(20, dtype=torch.long),
        reduction="none",
    )
    assert usual[0] == pytest.approx(sorted(wanted.tolist())[15]) and usual[1:].isinf().all()


class Ids(torch.nn.Module):
    def forward(self, images):
        return images[:, 0].long() % 11


def test_ids_say_nothing_of_doubt(joined, tmp_path, capsys, monkeypatch):
    torch.jit.script(Ids()).save(str(tmp_path / "ids.pt"))
    monkeypatch.setattr(Model, "sample_layouts", None)  # it is refused before anything is drawn
    with pytest.raises(SystemExit) as stop:
        run(joined, tmp_path / "out", "--segmenter", tmp_path / "ids.pt", "--doubtful", "unknown")
    assert stop.value.code == 2 and "must be one that gives logits; ids say nothing of doubt" in capsys.readouterr().err


class Described:
    """What Files asks of a model."""

    def __init__(self, table):
        self.label_space, self.data = load_space(table), {"height": 8, "width": 16}


def written(table, form, layout, out):
    image = torch.randint(0, 256, (3, 8, 16), dtype=torch.uint8)
    with Writer() as writer:
        Files(out, Described(table), writer, form).write("00000007", layout, image)
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("table", ["cityscapes", "cityscapes_25k"])
def test_torchvision_reads_the_form_of_cityscapes(tmp_path, table):
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    count = load_space(table).num_classes
    layout = torch.arange(128, dtype=torch.uint8).view(1, 8, 16) % count
    layout[0, 0, 0] = 255  # doubtful
    image = written(table, "cityscapes", layout, tmp_path)
    (pair,) = torchvision.datasets.Cityscapes(str(tmp_path), split="train", mode="fine", target_type="semantic")
    assert (np.asarray(pair[0]) == image).all()
    raw = np.asarray(pair[1])
    ids = {c.train_id: c.raw_ids[0] for c in load_space(table).classes} | {255: 255}
    assert (raw == np.vectorize(ids.get)(layout[0].numpy())).all()
    (train_ids,) = tmp_path.rglob("*_gtFine_labelTrainIds.png")
    wanted = np.vectorize(lambda i: labels.id2label[i].trainId if i < 255 else 255)(raw)
    assert (np.asarray(Image.open(train_ids)) == np.where(wanted < 0, 255, wanted)).all()


def test_the_form_of_mmsegmentation(tmp_path):
    layout = torch.arange(128, dtype=torch.uint8).view(1, 8, 16) % 12
    image = written("camvid", "mmseg", layout, tmp_path)
    assert (np.asarray(Image.open(tmp_path / "images/training/00000007.png")) == image).all()
    annotation = np.asarray(Image.open(tmp_path / "annotations/training/00000007.png"))  # as its LoadAnnotations does
    assert (annotation == np.where(layout[0] == 11, 255, layout[0])).all()
    assert set(FORMATS) == {"plain", "cityscapes", "mmseg"}


def test_what_is_refused(joined, halves, tmp_path, capsys):
    def refusal(*flags):
        with pytest.raises(SystemExit) as stop:
            run(joined, tmp_path / "out", *flags)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert stop.value.code == 2
        return line

    see = ["--segmenter", halves]
    assert "--keep_aligned is 1.5, but must be at least 0, at most 1" in refusal(*see, "--keep_aligned", 1.5)
    assert "--keep_aligned is given, but must be given with --segmenter" in refusal("--keep_aligned", 0.5)
    assert "--segmenter is given, but must be given with --keep_aligned or" in refusal(*see)
    assert "--keep_aligned_by is class, but must be given with --keep_aligned" in refusal("--keep_aligned_by", "class")
    assert "--doubtful_share is 0.3, but must be given with --doubtful" in refusal("--doubtful_share", 0.3)
    assert "left out beside --grid; it is of pairs" in refusal(*see, "--keep_aligned", 0.5, "--grid", "2x2")
    assert "--keep_aligned 1 fits none of 12 samples; ask for less" in refusal(*see, "--keep_aligned", 1)
    (tmp_path / "ids.json").write_text(json.dumps(["road", "sky"]))
    line = refusal(*see, "--keep_aligned", 0.5, "--segmenter_ids", tmp_path / "ids.json", "--overwrite")
    assert "which gives 11 classes, but must be one of 2" in line


@pytest.mark.parametrize("mix", [0.0, 0.3, 0.5, 1.0])
def test_which_pairs_a_batch_holds(mix):
    def numbered(kind):
        return lambda first, count: (torch.arange(first, first + count), torch.full((count,), kind))

    mixture, drawn = Mixture(numbered(0), numbered(1), mix), {0: [], 1: []}
    for seen in range(0, 1000, 10):
        for number, kind in zip(*mixture.pairs(seen, 10), strict=True):
            drawn[int(kind)].append(int(number))
    assert all(numbers == list(range(len(numbers))) for numbers in drawn.values())  # none twice, none left out
    assert len(drawn[1]) == pytest.approx(1000 * mix, abs=1)


def test_pairs_of_a_folder_and_of_the_checkpoint_that_drew_them(untrained, drawn_from, pairs):
    from SBGAN import load

    folder = PairsFolder(pairs, untrained.store)
    layouts, images = load(drawn_from, device="cpu").sample([3])
    assert len(folder) == 6 and (folder.image(3) == images[0].numpy()).all()
    assert (folder.layout(3)[::2, ::2] == layouts[0, 0].numpy()).all()
    draw = from_model(load(drawn_from, device="cpu"), 0, 32, 64)
    one, again = draw(5, 2), draw(6, 1)
    assert one[0].shape == (2, 3, 32, 64) and one[1].shape == (2, 1, 32, 64)
    assert all(torch.equal(a[1:], b) for a, b in zip(one, again, strict=True))
