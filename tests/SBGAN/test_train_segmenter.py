"""A segmentation network is trained on real and generated pairs, goes on where it was, and is asked by others."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import prepare
from datasets.labels import LabelClass, LabelSpace
from datasets.packed import open_store, share_of
from SBGAN import train_segmenter
from SBGAN.train_segmenter import augmented, class_weights
from SPADE.engine import checkpoint
from SPADE.segmenter import SegmentationNetwork
from tests.runs import SignalAt, curves, differences, final, train
from tests.SPADE.engine.test_distributed import on_two, run_stage


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


def test_two_processes_train_one_network(toy_store, tmp_path):
    """The share of each is half of the batch; the network that is saved is that of both."""
    assert on_two(run_stage, "segmenter", toy_store, tmp_path) == [0, 0]
    status, _ = train("segmenter", toy_store, tmp_path / "one")
    together, alone = final("segmenter", tmp_path), final("segmenter", tmp_path / "one")
    assert status == 0 and together.keys() == alone.keys() and together[".images_seen"] == 16
    name = ".networks.segmenter.state.network.backbone.0.1.running_mean"  # 16 images, other noise in each half
    assert torch.allclose(together[name], alone[name], rtol=0.2, atol=0.05)


def test_pairs_that_are_drawn_while_it_learns(toy_store, drawn_from, tmp_path):
    flags = ["--generated", drawn_from, "--mix", 1, "--steps", 2, "--precision", "bf16", "--micro_batch", 2]
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
    assert "--mix is 0, but must be above 0 beside --pairs" in refusal("--mix", 0, "--pairs", pairs)
    deeplab = "--network", "deeplabv3_mobilenet_v3_large"
    for batch, part in ((1, 0), (4, 1), (5, 4)):
        said = refusal(*deeplab, "--batch_size", batch, "--micro_batch", part)
        assert "into parts of two or more; take another for deeplabv3" in said
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
