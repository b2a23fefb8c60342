"""Every step, and whatever draws and scores, on a device that is none: no tensor in the wrong place, no waiting for it.

A new option joins by a line of STEPS: the program, its flags beyond those of `runs.py`, the images seen before it.

What cannot be seen here, and needs a GPU: numbers; pinned memory and streams (copies that are queued are taken to be so
without waiting, and `to_host` is stood in for); kernels that wait although their outputs' shapes are known; several
processes. `SPADE.ops.neighbourhoods` and `winograd` are for CPUs and are not entered: the sizes of the first depend on
labels. Scores and sheets of pictures are made on the CPU, of what was drawn. A script of `torch.jit` as the feature
network has no faked form; the Inception stands for it. The segmentation network's training: the process dies while
torchvision's network is built for it, for a reason not found; its predictions are here.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
STYLE = ["--use_vae", "--style_dim", "4"]
BF16, PARTS = ["--precision", "bf16"], ["--micro_batch", "4"]
STEPS = {
    "stage 1": ("layout", [], 0),
    "stage 1 in a fade, bf16, in parts": ("layout", [*BF16, *PARTS], 24),
    "stage 1 with R1, bf16": ("layout", ["--loss", "r1", *BF16], 0),
    "stage 1 as the released code": ("layout", ["--pixel_norm", "mean_square", "--floor", "1e-5"], 8),
    "stage 1 with a lazy penalty": ("layout", ["--penalty_every", "2"], 8),
    "stage 1, fakes of the generator's descent": ("layout", ["--reuse_fakes", *PARTS], 8),
    "stage 2, fakes of the generator's descent": ("spade", ["--reuse_fakes", *BF16], 0),
    "stage 3, fakes of the generators' descent": ("finetune", ["--reuse_fakes", *PARTS], 16),
    "baseline": ("image", [], 24),
    "baseline in bf16": ("image", [*BF16], 24),
    "stage 2": ("spade", [], 0),
    "stage 2 in bf16 with VGG, in parts": ("spade", [*BF16, *PARTS, "--vgg_loss"], 8),
    "stage 2 with styles": ("spade", [*STYLE], 0),
    "stage 2 with moving noise, in bf16": ("spade", ["--noise", "--move_noise", *BF16], 0),
    "stage 2, augmented, in bf16": ("spade", ["--augment", "color,translation,cutout", *BF16], 0),
    "stage 2 with styles in bf16": ("spade", [*STYLE, *BF16], 0),
    "stage 2, segmentation critic": ("spade", ["--critic", "segmentation"], 0),
    "stage 2, segmentation critic in bf16": ("spade", ["--critic", "segmentation", *BF16], 0),
    "stage 3, D2 alone": ("finetune", [], 0),
    "stage 3, D2 alone in bf16": ("finetune", [*BF16], 0),
    "stage 3": ("finetune", [], 16),
    "stage 3, D2 from stage 2": ("finetune", ["--warm_D2"], 16),
    "stage 3 in full, bf16, in parts": ("finetune", ["--layout_grad", "full", *BF16, *PARTS], 16),
    "stage 3, augmented, in full": ("finetune", ["--augment", "color,translation", "--layout_grad", "full"], 16),
    "stage 3 with styles, bf16": ("finetune", [*BF16, "--spade_name", "styled"], 16),
    "stage 3, segmentation critic, R1": ("finetune", ["--spade_name", "segmenting", "--layout_loss", "r1"], 16),
    "stage 3 without the layouts": ("finetune", ["--no_train_layout"], 16),
    "stage 3 without SPADE, in bf16": ("finetune", ["--no_train_spade", *BF16], 16),
}
BEGINNINGS = {"layout": ("layout", []), "spade": ("spade", []), "styled": ("spade", STYLE)}  # of stage 3
BEGINNINGS |= {"segmenting": ("spade", ["--critic", "segmentation"])}


def in_its_own_process(part: str, *arguments) -> dict:
    """What is wrong with each case of a part of this file."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, __file__, part, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("part", [0, 1])
def test_steps(toy_store, tmp_path, part):
    found = in_its_own_process("steps", toy_store, tmp_path, part)
    assert list(found) == list(STEPS)[part::2]
    wrong = {name: error for name, error in found.items() if error}
    assert not wrong, "\n\n".join(f"{name}:\n{error}" for name, error in wrong.items())


def test_drawing_and_scoring():
    found = in_its_own_process("drawing")
    assert len(found) == 8 and not any(found.values()), "\n\n".join(filter(None, found.values()))


def test_each_kind_of_mistake_is_seen():
    found = in_its_own_process("mistakes")
    assert len(found) == 6 and all(found.values()), [name for name, error in found.items() if not error]


# --- In the process of their own ---


class Reached(Exception):
    """A program has come to its loop."""


def perceptual_network(config, device):
    """With weights of no file."""
    from SPADE.losses import VGG19Features

    return VGG19Features(None).to(device) if config.vgg_loss else None


def handed_over(stage: str, flags: list, device) -> tuple:
    """A program's settings and what it hands over to the loop."""
    from SBGAN import train_finetune_end2end, train_progressive, train_progressive_seg
    from SPADE import train as train_spade
    from SPADE.engine import config as settings
    from SPADE.engine import loop

    programs = {"layout": train_progressive_seg, "image": train_progressive}
    program = (programs | {"spade": train_spade, "finetune": train_finetune_end2end})[stage]
    got = []

    def stop(config, folder, training, device):
        got.extend([config, training])
        folder.__exit__()
        raise Reached

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Reached):
        patch.setattr(program, "pick", lambda name: device)
        patch.setattr(loop, "train", stop)
        if hasattr(program, "perceptual_network"):
            patch.setattr(program, "perceptual_network", perceptual_network)
        program.run(settings.parse(program.run.__annotations__["config"], [str(flag) for flag in flags]))
    return got


def flags_of(stage: str, name: str, store, folder, more) -> list:
    from runs import FLAGS, LAYOUT

    places = ["--store", store, "--weights", Path(folder) / "weights", "--logs", Path(folder) / "logs"]
    stages = FLAGS | {"image": [*LAYOUT, "--no_fid"]}
    return [*places, "--name", name, *stages[stage], *more]


def write_beginnings(store, folder):
    """Checkpoints that stage 3 begins from, of networks that are not trained."""
    from runs import STAGE

    from datasets.packed import open_store
    from SPADE.engine import checkpoint
    from SPADE.engine.checkpoint import data_record

    for name, (stage, more) in BEGINNINGS.items():
        config, training = handed_over(stage, flags_of(stage, name, store, folder, more), torch.device("cpu"))
        content = training.state.record(config, data_record(open_store(store)))
        path = Path(folder) / "weights" / name / f"{stage}_1.pt"
        checkpoint.save(path, STAGE[stage], content | {"resolution": 8, "alpha": 1.0, "epoch": 1})


def step(config, training, images_seen: int, device):
    """As the loop makes it."""
    from faked_device import Watching

    from SPADE.engine.device import autocast, seed_step
    from SPADE.engine.step import Guard, descend, set_learning_rate

    state, next_ = training.state, training.schedule(images_seen)
    guard = Guard(state.networks.values(), state.skipped, None)
    precision = autocast(config.precision, device)
    with Watching():
        for name, rate in next_.rates.items():
            set_learning_rate(state.optimizers[name], rate)
        seed_step(config.seed, images_seen)
        losses = training.update(next_, partial(descend, guard=guard, autocast=precision))
        assert losses and all(value.device.type == device.type for value in losses.values())
        state.average(next_.batch_size, next_.averaged, config.ema_images)


def steps(device, store, folder, part):
    from faked_device import faked

    from SPADE.engine import step as engine_step

    write_beginnings(store, folder)
    engine_step.to_host = lambda tensor: (SimpleNamespace(tolist=lambda: [0.0] * len(tensor)), None)

    def case(name, stage, more, images_seen):
        with faked():
            config, training = handed_over(stage, flags_of(stage, name.replace(" ", "_"), store, folder, more), device)
            step(config, training, images_seen, device)

    return {name: partial(case, name, *of) for name, of in list(STEPS.items())[int(part) :: 2]}


def drawing(device):
    """What is drawn comes to the CPU at the end; up to there nobody waits."""
    from faked_device import Watching, faked

    import SBGAN.evaluation.copies as copies
    from datasets.labels import load_space
    from SBGAN.model import draw_images, draw_layouts, truncated
    from SBGAN.networks import ImageGenerator, LayoutGenerator
    from SPADE.engine.device import autocast, place
    from SPADE.engine.images import render
    from SPADE.evaluation import features
    from SPADE.networks import SPADEGenerator
    from SPADE.segmenter import SegmentationNetwork, segmenter_of

    sizes = dict(aspect=2, max_resolution=16, fmap_max=8, latent_dim=4)

    def spade(style_dim=0, precision="fp32"):
        generator = place(SPADEGenerator(5, 32, 64, 2, 5, 4, style_dim), device)
        with autocast(precision, device):
            images = render(generator, torch.zeros(3, 1, 32, 64, dtype=torch.uint8), range(3))
        assert images.shape == (3, 3, 32, 64) and images.device.type == "cpu" and images.dtype == torch.uint8

    def layouts():
        generator = place(LayoutGenerator(5, **sizes), device)
        assert draw_layouts(generator, range(18)).shape == (18, 1, 16, 32)
        with truncated(generator, 0.5):
            assert draw_layouts(generator, range(2), 8, 0.5).shape == (2, 1, 8, 16)

    def images():
        assert draw_images(place(ImageGenerator(3, **sizes), device), range(3)).device.type == "cpu"

    def inception():
        network = features.FeatureExtractorInceptionV3.__new__(features.FeatureExtractorInceptionV3)
        with pytest.MonkeyPatch.context() as patch:  # its weights
            patch.setattr(torch, "load", lambda *arguments, **more: {})
            patch.setattr(torch.nn.Module, "load_state_dict", lambda *arguments, **more: None)
            network.__init__("inception", ["2048"], "none")
        network.to(device)
        found = features.extract_features(lambda x: network(x)[0], torch.zeros(3, 3, 32, 64).byte(), 2, device)
        assert found.shape == (3, 2048) and found.device.type == "cpu"

    def segmenter():
        space, network = load_space("toy_street"), place(SegmentationNetwork(11), device).eval()
        found = segmenter_of(network, space, "a network", "of no file")
        images, layouts = torch.zeros(3, 3, 32, 64).byte(), torch.zeros(3, 1, 32, 64).byte()
        assert found.predict(images, device).device.type == "cpu"
        assert found.surprise(images, layouts, device).shape == (3, 1, 32, 64)

    def nearest():
        samples, items = torch.zeros(2, 1, 8, 16).byte().to(device), torch.zeros(3, 1, 8, 16).byte().to(device)
        assert copies.nearest(samples, [items], copies.layout_distances).distance.device.type == device.type
        samples, items = samples.expand(-1, 3, -1, -1), items.expand(-1, 3, -1, -1)
        assert copies.nearest(samples, [items], copies.image_distances).index.device.type == device.type

    def inside(draw, *arguments):
        with faked(), Watching(waiting=True):
            draw(*arguments)

    cases = {"layouts": [layouts], "images of noise": [images], "SPADE": [spade], "with styles": [spade, 4]}
    cases |= {"SPADE in bf16": [spade, 0, "bf16"], "the extractor's path": [inception], "the copy check": [nearest]}
    cases |= {"a segmenter": [segmenter]}
    return {name: partial(inside, *of) for name, of in cases.items()}


def mistakes(device):
    """Each raises, or the other tests see nothing."""
    from faked_device import Watching, faked

    def made(mistake):
        with faked():
            x, weight = torch.randn(2, 3, 4, 4, device=device), torch.randn(5, 3, 3, 3, device=device)
            with Watching():
                mistake(x, weight)

    cases = {
        "a tensor on the CPU": lambda x, weight: x + torch.randn(4),
        "weights on the CPU": lambda x, weight: torch.conv2d(x, weight.new_empty(5, 3, 3, 3, device="cpu")),
        "a value is read": lambda x, weight: x.sum().item(),
        "a value decides": lambda x, weight: 1 if x.sum() > 0 else 0,
        "a size depends on values": lambda x, weight: x[x > 0],
        "a copy is waited for": lambda x, weight: x.cpu(),
    }
    return {name: partial(made, mistake) for name, mistake in cases.items()}


def main(part: str, *arguments):
    torch.set_num_threads(1)
    from faked_device import install

    device, found = install(), {}
    for name, case in {"steps": steps, "drawing": drawing, "mistakes": mistakes}[part](device, *arguments).items():
        try:
            found[name] = case()
        except Exception as error:
            ours = [
                frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(ROOT))
            ]
            what = f"{type(error).__name__}: {str(error)[:500]}"
            found[name] = "\n".join([*(f"{Path(f.filename).name}:{f.lineno} {f.line}" for f in ours[-6:]), what])
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
