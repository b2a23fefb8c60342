"""A segmentation network is trained on real and generated pairs, goes on where it was, and is asked by others."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from datasets import prepare
from datasets.labels import LabelClass, LabelSpace
from datasets.packed import open_store, share_of
from SBGAN import generate, train_segmenter
from SBGAN.pairs import Mixture, PairsFolder, from_model
from SBGAN.train_segmenter import augmented, class_weights
from SPADE.engine import checkpoint, distributed
from SPADE.pretrained import torchvision
from SPADE.segmenter import BatchNorm, SegmentationNetwork
from tests.runs import SignalAt, curves, differences, final, train
from tests.SBGAN.test_processes import on_two, run_stage


@pytest.fixture(scope="module")
def joined(untrained):
    return untrained.joined(name="finetune_9.pt")


@pytest.fixture(scope="module")
def pairs(joined, tmp_path_factory):
    """A folder that SBGAN.generate wrote."""
    out = tmp_path_factory.mktemp("pairs") / "out"
    generate.main(["--checkpoint", str(joined), "--num", "6", "--out", str(out), "--device", "cpu"])
    return out


@pytest.fixture(scope="module")
def whole(toy_store, pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    status, output = train("segmenter", toy_store, folder, "--pairs", pairs)
    assert status == 0, output
    return folder


def test_what_it_leaves(whole, toy_store):
    content = checkpoint.load(whole / "weights/segmenter/segmenter_4.pt", "segmenter")
    network = checkpoint.rebuild(SegmentationNetwork, content["networks"]["segmenter"])
    assert network.eval()(torch.zeros(2, 3, 32, 64)).shape == (2, 11, 32, 64)
    record = json.loads((whole / "weights/segmenter/metrics.jsonl").read_text().splitlines()[-1])
    row = record["scores"]["real pairs of val"]
    assert record["images_seen"] == 16 and 0 <= row["miou"] <= row["accuracy"] <= 1
    rates = [value for _, value in curves("segmenter", whole)["learning_rate"]]
    assert rates == pytest.approx([1e-3 * (1 - i / 4) ** 0.9 for i in range(4)])


def test_it_goes_on_to_the_bit(whole, toy_store, pairs, tmp_path):
    flags = ["--pairs", pairs, "--resume_every", 1]
    status, _ = train("segmenter", toy_store, tmp_path, *flags, before=SignalAt(signal.SIGKILL, 3))
    assert status == -signal.SIGKILL
    status, output = train("segmenter", toy_store, tmp_path, *flags)
    assert status == 0 and "continuing from" in output, output
    assert differences(final("segmenter", tmp_path), final("segmenter", whole)) == []


def statistics_of_both(folder):
    """Batch norm of a half of the batch in each process, forward and backward."""
    distributed.start(torch.device("cpu"))
    x, wanted = torch.load(folder / "given.pt")
    half = slice(4 * distributed.rank(), 4 * distributed.rank() + 4)
    mine, norm = x[half].requires_grad_(), BatchNorm(5, 1e-3)
    y = norm(mine)
    y.backward(wanted[half])
    found = {"y": y.detach(), "x": mine.grad, "mean": norm.running_mean, "var": norm.running_var}
    torch.save(found | {"weight": norm.weight.grad, "bias": norm.bias.grad}, folder / f"{distributed.rank()}.pt")


def test_batch_norm_of_two_processes_is_torchs_of_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    x, gradient = torch.randn(8, 5, 3, 4) * 3 + 1, torch.randn(8, 5, 3, 4)
    torch.save((x, gradient), tmp_path / "given.pt")
    assert on_two(statistics_of_both, tmp_path) == [0, 0]
    norm = nn.BatchNorm2d(5, 1e-3, momentum=0.1)
    y = norm(x.requires_grad_())
    y.backward(gradient)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    close = {"rtol": 1e-4, "atol": 1e-5}
    assert torch.allclose(torch.cat([part["y"] for part in parts]), y, **close)
    assert torch.allclose(torch.cat([part["x"] for part in parts]), x.grad, **close)
    for name in ("weight", "bias"):  # which the optimiser's step sums over the processes
        assert torch.allclose(sum(part[name] for part in parts), getattr(norm, name).grad, **close)
    for part in parts:
        assert torch.allclose(part["mean"], norm.running_mean, **close)
        assert torch.allclose(part["var"], norm.running_var, **close)


def test_two_processes_train_one_network(toy_store, tmp_path):
    """The share of each is half of the batch; the network that is saved is that of both."""
    assert on_two(run_stage, "segmenter", toy_store, tmp_path) == [0, 0]
    status, _ = train("segmenter", toy_store, tmp_path / "one")
    together, alone = final("segmenter", tmp_path), final("segmenter", tmp_path / "one")
    assert status == 0 and together.keys() == alone.keys() and together[".images_seen"] == 16
    name = ".networks.segmenter.state.network.backbone.0.1.running_mean"  # 16 images, other noise in each half
    assert torch.allclose(together[name], alone[name], rtol=0.2, atol=0.05)


def test_it_is_torchvisions_network():
    network = SegmentationNetwork(7).eval()
    theirs = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=7
    )
    theirs.load_state_dict(network.network.state_dict(), strict=False)
    images = torch.rand(2, 3, 32, 64) * 255
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    wanted = theirs.eval()(normalise(images / 255))["out"]
    assert torch.allclose(network(images), wanted, atol=1e-4)


def test_weights_of_a_backbone(tmp_path):
    theirs = torchvision.models.mobilenet_v3_large(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = SegmentationNetwork(3)
    network.load_backbone(tmp_path / "theirs.pth")
    assert torch.equal(network.network.backbone["1"].block[0][0].weight, theirs.features[1].block[0][0].weight)


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


def test_pairs_of_a_folder_and_of_the_checkpoint_that_drew_them(untrained, joined, pairs):
    from SBGAN import load

    folder = PairsFolder(pairs, untrained.store)
    layouts, images = load(joined, device="cpu").sample([3])
    assert len(folder) == 6 and (folder.image(3) == images[0].numpy()).all()
    assert (folder.layout(3)[::2, ::2] == layouts[0, 0].numpy()).all()
    draw = from_model(load(joined, device="cpu"), 0, 32, 64)
    one, again = draw(5, 2), draw(6, 1)
    assert one[0].shape == (2, 3, 32, 64) and one[1].shape == (2, 1, 32, 64)
    assert all(torch.equal(a[1:], b) for a, b in zip(one, again, strict=True))


def test_pairs_that_are_drawn_while_it_learns(toy_store, joined, tmp_path):
    flags = ["--generated", joined, "--mix", 1, "--steps", 2, "--precision", "bf16", "--micro_batch", 2]
    status, output = train("segmenter", toy_store, tmp_path, *flags)
    assert status == 0 and "segmenter_2.pt" in output
    assert (
        len(checkpoint.load(tmp_path / "weights/segmenter/segmenter_2.pt", "segmenter")["data"]["generated_pairs"])
        == 16
    )


class Labels:
    """A split of one layout."""

    def __init__(self, layout):
        self.one = np.array(layout, np.uint8)

    def __len__(self):
        return 1

    def layout(self, i):
        return self.one


def test_class_weights():
    space = LabelSpace("t", tuple(LabelClass(i, name, (i, 0, 0)) for i, name in enumerate(("a", "b", "void", "d"))))
    weights = class_weights(Labels([[0] * 8 + [1] * 2 + [2] * 5]), space, 0.5)
    assert weights[2] == 0 and (weights[4:] == 0).all()
    assert weights[1] / weights[0] == pytest.approx(2)  # a quarter of its pixels
    assert weights[3] / weights[0] == pytest.approx((0.8 / 1e-4) ** 0.5)  # is in no label
    assert 0.8 * weights[0] + 0.2 * weights[1] == pytest.approx(1)


def test_image_and_labels_are_cropped_alike():
    torch.manual_seed(0)
    labels = torch.arange(10, dtype=torch.uint8).repeat_interleave(8).expand(16, 1, 40, 80).contiguous()
    images = labels.expand(-1, 3, -1, -1).float() * 20
    crops, found = augmented(images, labels, zoom=2.0, jitter=0.0)
    assert ((crops[:, :1] / 20).round() == found).float().mean() > 0.9
    assert all(len(layout.unique()) >= 5 for layout in found) and not torch.equal(found, labels)
    changed, same = augmented(images, labels, zoom=1.0, jitter=0.25)
    assert torch.equal(same, labels) and changed.min() >= 0 and changed.max() <= 255 and (changed != images).any()


def test_a_share_of_the_pairs_is_that_of_a_prepared_subset(toy_store, tmp_path):
    prepare.main(
        ["subset", "--store", str(toy_store), "--share", "0.25", "--out", str(tmp_path / "s"), "--workers", "1"]
    )
    store, whole = open_store(tmp_path / "s"), open_store(toy_store)
    split = share_of(whole["train"], 0.25)
    assert store["train"].draws_per_epoch == whole["train"].draws_per_epoch == 16 and store["val"].weights == [1] * 8
    assert store["train"].crc32 == split.crc32 and store["val"].crc32 == whole["val"].crc32
    assert (store.name, store.label_space, store.reference) == (whole.name, whole.label_space, whole.reference)
    assert [whole["train"].names.index(name) % 4 for name in split.names] == [3] * 4
    assert all((store["train"].layout(i) == split.layout(i)).all() for i in range(4))


def refused(capsys, main, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and line.startswith("error: ")
    return line


def test_what_is_refused(untrained, toy_store, pairs, tmp_path, capsys):
    def refusal(*flags):
        places = ["--store", toy_store, "--weights", tmp_path, "--name", "n", "--device", "cpu"]
        line = refused(capsys, train_segmenter.main, *places, *flags)
        assert not (tmp_path / "n").exists()
        return line

    assert "--share 0.01 leaves none of 16 pairs" in refusal("--share", 0.01)
    assert "--share is 1.5, but must be above 0.0, at most 1" in refusal("--share", 1.5).replace(
        "above 0,", "above 0.0,"
    )
    assert "--batch_size is 16, but must be at most 8" in refusal("--share", 0.5)
    assert "--mix is 0.5, but must be 0 without generated pairs" in refusal("--mix", 0.5)
    assert "--pairs is given with --generated" in refusal("--pairs", pairs, "--generated", "x.pt")
    assert "with 6 pairs, but must be at least 16, a batch" in refusal("--pairs", pairs)
    assert "of stage spade, but must be one that draws pairs" in refusal("--generated", untrained.spade())
    assert "no `images` and `layouts` in it" in refusal("--pairs", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "layouts").mkdir()
    Image.new("RGB", (64, 32)).save(tmp_path / "images/0.png")
    for ids, words in (
        (np.full((32, 64), 11, np.uint8), "0.png: id 11 at 2048 pixels, but train ids of toy_street are 0..10"),
        (np.zeros((16, 32), np.uint8), "16x32 pixels, wanted 32x64 as in --store"),
        (np.zeros((32, 64, 3), np.uint8), "colours, wanted train ids"),
    ):
        Image.fromarray(ids).save(tmp_path / "layouts/0.png")
        assert words in refusal("--pairs", tmp_path, "--batch_size", 1)
    Image.fromarray(np.full((32, 64), 255, np.uint8)).save(tmp_path / "layouts/0.png")
    assert "no pixel of its layouts says a class" in refusal("--pairs", tmp_path, "--batch_size", 1)
    Image.new("RGB", (32, 16)).save(tmp_path / "images/0.png")
    line = refusal("--pairs", tmp_path, "--batch_size", 1)
    assert "images/0.png: 16x32 pixels, wanted 32x64" in line
    about = {"classes": ["road", "sky"]}
    (tmp_path / "about.json").write_text(json.dumps(about))  # whose ids 0 and 1 would be ids here, too
    line = refusal("--pairs", tmp_path, "--batch_size", 1)
    assert "pairs of the classes road, sky, wanted those of --store, road, " in line
    line = refused(capsys, prepare.main, "subset", "--store", toy_store, "--share", 2, "--out", tmp_path / "out")
    assert "--share 2: no share" in line


def test_one_of_other_data_is_no_segmenter_for_this(whole, untrained, tmp_path, capsys):
    from SBGAN import evaluate

    small = ["toy_street", "--out", str(tmp_path / "small"), "--num_train", "2", "--num_val", "2", "--workers", "1"]
    prepare.main([*small, "--height", "16", "--width", "32"])
    segmenter = whole / "weights/segmenter/segmenter_4.pt"
    flags = ["--checkpoint", untrained.joined(), "--device", "cpu", "--results", tmp_path, "--no_fid", "--num_eval", 2]
    capsys.readouterr()
    evaluate.main([str(word) for word in (*flags, "--segmenter", segmenter)])
    assert "segmenter_4.pt (SHA-256" in next(tmp_path.rglob("scores.json")).read_text()
    capsys.readouterr()
    train_segmenter.main([str(word) for word in (
        "--store", tmp_path / "small", "--weights", tmp_path, "--name", "small", "--logs", tmp_path, "--device", "cpu",
        "--steps", 1, "--batch_size", 2,
    )])  # fmt: skip
    capsys.readouterr()
    line = refused(capsys, evaluate.main, *flags, "--segmenter", tmp_path / "small/segmenter_1.pt")
    assert "trained on toy_street at 16x32 with 11 classes, but must be one of toy_street at 32x64" in line
