"""Recipes: their flags are their programs', they run from anywhere, and numbers are those of the paper."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from SBGAN.compare import ROWS_OF_SEEDS
from SBGAN.evaluate import EvaluationSettings
from SBGAN.layout_stage import parse_by_resolution
from SBGAN.networks import block_channels, block_of
from SBGAN.train_finetune_end2end import FinetuneSettings
from SBGAN.train_progressive import BaselineSettings
from SBGAN.train_progressive_seg import LayoutSettings
from SBGAN.train_segmenter import SegmenterSettings
from SPADE.engine import config
from SPADE.networks import UPSAMPLINGS
from SPADE.train import SpadeSettings

SCRIPTS = Path(__file__).parents[2] / "scripts"
DATA_SETS = ("toy_street", "camvid", "cityscapes", "cityscapes_25k", "ade_indoor")
STAGES = {"stage1": LayoutSettings, "stage2": SpadeSettings, "stage3": FinetuneSettings}
PROGRAMS = STAGES | {"baseline": BaselineSettings, "segmenter": SegmenterSettings}
NAMES = {"stage1": [], "stage2": [], "stage3": ["--layout_name", "a", "--spade_name", "b"]}


def flags(data_set, stage, program=None):
    """A stage's settings as its program would get them."""
    command = f'source "$0"; printf "%s\\n" "${{{stage}[@]}}"'
    settings = SCRIPTS / data_set / "settings.sh"
    text = subprocess.run(["bash", "-c", command, settings], check=True, capture_output=True, text=True).stdout
    given = ["--store", "s", "--name", "n", *NAMES.get(stage, []), *text.split()]
    return config.parse(program or PROGRAMS[stage], given)


@pytest.mark.parametrize("data_set", DATA_SETS)
@pytest.mark.parametrize("stage", PROGRAMS)
def test_settings_are_flags_of_their_program(data_set, stage):
    flags(data_set, stage)


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_scoring_is_flags_of_every_test(data_set):
    flags(data_set, "scoring", EvaluationSettings)


def chosen(stage, images, rows, columns, classes, program=None):
    """What scripts/choose.sh takes for a store."""
    command = f'source "$0"; choose "$@" >&2; printf "%s\\n" "${{{stage}[@]}}"'
    store = map(str, (images, rows, columns, classes))
    command = ["bash", "-euc", command, SCRIPTS / "folder/settings.sh", *store]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    given = ["--store", "s", "--name", "n", *NAMES.get(stage, []), *text.split()]
    return config.parse(program or PROGRAMS[stage], given)


STORES = [(1, 32, 32, 2), (9, 64, 128, 3), (367, 64, 128, 12), (300, 128, 128, 150), (4377, 256, 256, 95)]


@pytest.mark.parametrize("images, rows, columns, classes", [*STORES, (100_000, 512, 1024, 255)])
def test_chosen_numbers_fit_the_store(images, rows, columns, classes):
    one, two, three = (chosen(stage, images, rows, columns, classes) for stage in STAGES)
    assert all(1 <= stage.batch_size <= images for stage in (one, two, three))
    assert all(1 <= size <= one.batch_size for size in parse_by_resolution(one.batch_sizes, "batch_sizes").values())
    assert one.max_dim in (rows // 2, 4) and one.fmap_max >= min(classes, 512) and 1 <= one.epochs <= 100
    widest, finest = (block_channels(i, one.fmap_base, one.fmap_max)[1] for i in (0, block_of(one.max_dim)))
    assert widest == one.fmap_max and 4 * finest >= min(classes, 512)
    assert min(two.niter, two.niter_decay, three.niter, three.niter_decay) >= 1
    assert two.niter + two.niter_decay <= 200 and three.niter + three.niter_decay <= 100
    assert chosen("segmenter", images, rows, columns, classes).batch_size <= images
    assert rows % 2 ** UPSAMPLINGS[two.upsampling] == columns % 2 ** UPSAMPLINGS[two.upsampling] == 0
    assert 16 <= chosen("scoring", images, rows, columns, classes, EvaluationSettings).num_eval <= 500


def test_chosen_numbers_are_those_of_the_recipes_they_come_from():
    # Names and counts are a store's own; scripts/camvid keeps more of stage 1 and leaves VGG-19 to who trains.
    own = "store", "name", "num_eval", "save_every", "vgg_loss"
    for stage in (*STAGES, "baseline"):
        small, camvid = vars(chosen(stage, 367, 64, 128, 12)), vars(flags("camvid", stage))
        assert {k: v for k, v in small.items() if k not in own} == {k: v for k, v in camvid.items() if k not in own}
    large, cityscapes = chosen("stage2", 2975, 256, 512, 35), flags("cityscapes", "stage2")
    for setting in ("niter", "niter_decay", "lr", "ngf", "ndf", "hidden", "upsampling", "vgg_loss"):
        assert getattr(large, setting) == getattr(cityscapes, setting), setting
    assert chosen("stage1", 2975, 256, 512, 35).fmap_max == flags("cityscapes", "stage1").fmap_max


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_data_set_is_its_settings_and_nothing_copied(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(SCRIPTS / "new_dataset.sh", scripts)
    shutil.copytree(SCRIPTS / "recipes", scripts / "recipes")
    command = ["bash", scripts / "new_dataset.sh"]
    subprocess.run([*command, "zoo"], check=True, capture_output=True)
    made = files(scripts / "zoo")
    settings = made.pop("settings.sh").decode()
    folder = (SCRIPTS / "folder/settings.sh").read_text()
    assert settings.split("dataset=")[1].splitlines()[1:] == folder.split("dataset=")[1].splitlines()[1:]
    assert made.keys() == files(SCRIPTS / "recipes").keys() == {f"{recipe}.sh" for recipe in (*TINY, *OVER_SEEDS)}
    for data_set in (*DATA_SETS, "folder"):
        found = files(SCRIPTS / data_set)
        found.pop("settings.sh")
        assert found == made, f"{data_set}: bash scripts/new_dataset.sh {data_set} mends it"
    (scripts / "zoo/settings.sh").write_text("mine")
    subprocess.run([*command, "zoo"], check=True, capture_output=True)
    assert (scripts / "zoo/settings.sh").read_text() == "mine"


@pytest.mark.parametrize("names", [[], ["a", "b"], ["a/b"], ["recipes"], ["../a"], [""]])
def test_names_that_are_none_of_a_data_set(tmp_path, names):
    shutil.copy(SCRIPTS / "new_dataset.sh", tmp_path)
    done = subprocess.run(["bash", tmp_path / "new_dataset.sh", *names], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: NAME is")
    assert [path.name for path in tmp_path.iterdir()] == ["new_dataset.sh"]


# The numbers of the paper's recipes: epochs and batch of stage 1; niter, niter_decay, batch of stages 2 and 3; lr_pgan.
PUBLISHED = {
    "ade_indoor": ((100, 36), (150, 150, 48), (50, 50, 16, 1e-4)),
    "cityscapes": ((150, 16), (100, 100, 24), (50, 50, 8, 1e-5)),
    "cityscapes_25k": ((20, 32), (30, 30, 32), (30, 30, 8, 1e-5)),
}


@pytest.mark.parametrize("data_set", PUBLISHED)
def test_published_numbers(data_set):
    one, two, three = (flags(data_set, stage) for stage in STAGES)
    assert ((one.epochs, one.batch_size), (two.niter, two.niter_decay, two.batch_size)) == PUBLISHED[data_set][:2]
    assert (three.niter, three.niter_decay, three.batch_size, three.lr_pgan) == PUBLISHED[data_set][2]
    assert two.upsampling == ("normal" if data_set == "ade_indoor" else "more")
    assert (one.lr, two.lr, three.lr, three.lambda_pgan, three.lambda_D2) == (1e-3, 2e-4, 2e-4, 10.0, 0.1)
    assert (one.fmap_base, one.fmap_max) == (8192, 512)
    assert (two.ngf, two.ndf, two.hidden, two.d_strides) == (64, 64, 128, (2, 2, 2, 1))


OVER_SEEDS = ("reproduce", "usefulness", "augment")
TINY = {
    "train_progressive_seg": "--max_dim 4 --epochs 1 --epochs_at= --batch_size 8 --fmap_max 4 --latent_dim 4 "
    "--num_eval 8",
    "train_spade": "--batch_size 8 --niter_decay 1 --ngf 2 --ndf 2 --hidden 4 --num_eval 8",
    "train_finetune_end2end": "--batch_size 8 --num_eval 8",
    "train_segmenter": "--steps 2 --batch_size 4 --enlarge 1",
    "train_progressive": "--max_dim 16 --epochs 1 --epochs_at= --batch_size 8 --fmap_max 4 --num_eval 8",
    "test_finetune_end2end": "--num_eval 8",
    "test_progressive": "--num_eval 8",
    "test_spade": "--num_eval 8",
    "compare": "--num_eval 8",
}


def run(data_set, script, *arguments, cwd, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in variables.items()}}
    command = ["bash", str(SCRIPTS / data_set / f"{script}.sh"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_from_any_directory_with_further_flags_and_variables(toy_store, tmp_path):
    places = dict(store=toy_store, weights=tmp_path / "my weights", logs=tmp_path / "my logs", name="mine")
    tiny = TINY["train_progressive_seg"].split()
    done = run("toy_street", "train_progressive_seg", *tiny, "--device", "cpu", cwd=tmp_path, **places)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my weights/mine_layout/layout_2.pt").is_file()
    missing = run("toy_street", "train_finetune_end2end", cwd=tmp_path, pro_iter=7, **places)
    assert missing.returncode == 2 and "--pro_iter is 7" in missing.stderr


def run_with_two_processes(script, store, folder):
    places = {place: folder / place for place in ("weights", "logs", "results")}
    flags = [*TINY[script].split(), "--device", "cpu"]
    done = run("toy_street", script, *flags, cwd=folder, store=store, gpus=2, **places)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes(toy_store, tmp_path):
    output = run_with_two_processes("train_progressive_seg", toy_store, tmp_path)
    assert output.count("layout GAN saved to") == 1
    assert (tmp_path / "weights/toy_street_layout/layout_2.pt").is_file()


@pytest.mark.soak
def test_every_recipe_with_two_processes(toy_store, tmp_path):
    for script in TINY:
        run_with_two_processes(script, toy_store, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("pairs", [2, 10])
def test_a_few_pictures_of_ones_own_through_all_stages(pairs, tmp_path):
    for i in range(pairs):
        labels = np.zeros((48, 64), np.uint8)
        labels[20 + i :] = 7
        for kind, pixels in (("images", np.stack([labels * 20, labels, 255 - labels], 2)), ("labels", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    places = {place: tmp_path / place for place in ("store", "weights", "logs", "results")}
    for script, shorter in (
        ("train_progressive_seg", ["--epochs", 1]),
        ("train_spade", ["--niter", 1, "--niter_decay", 1]),
        ("train_finetune_end2end", ["--niter", 1, "--niter_decay", 1]),
        ("test_finetune_end2end", []),
    ):
        flags = [*shorter, "--device", "cpu"]
        done = run("folder", script, "--source", tmp_path, *flags, cwd=tmp_path, height=32, **places)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/folder_finetune/scores.json").is_file()


# In python's place: a program is noted and leaves what comes of it, but one that is to fail; all else is python's.
NOTING_PYTHON = """#!/bin/bash
[[ "$1 $2" == "-m S"* && "$2" != *compare ]] || exec "$python" "$@"
while [ $# -gt 0 ]; do
    case "$1" in -m) program=$2 ;; --name) name=$2 ;; --results) results=$2 ;; esac
    shift
done
if [ "$name" = "$fails" ]; then echo "no space left" >&2; exit 1; fi
echo "$program $name" >>"$notes"
[[ "$program" != *evaluate ]] || { mkdir -p "$results/$name"; cp "$scored" "$results/$name/scores.json"; }
"""


def test_a_reproduction_goes_on_where_it_was(toy_store, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(NOTING_PYTHON)
    (tmp_path / "bin/python").chmod(0o755)
    columns = {place: {"fsd": 1.0, "swd": {"mean": 2.0}} for _, place in ROWS_OF_SEEDS["reproduction"].values()}
    (tmp_path / "scored").write_text(json.dumps({"scores": columns}))
    places = {place: tmp_path / place for place in ("weights", "logs", "results", "notes", "scored")}
    variables = dict(places, python=sys.executable, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", store=toy_store)
    stopped = run("toy_street", "reproduce", cwd=tmp_path, seeds="0 1", fails="toy_street_seed1_control", **variables)
    assert stopped.returncode != 0 and "toy_street_seed1_control failed" in stopped.stderr
    assert "no space left" in stopped.stderr and not (tmp_path / "results/toy_street_reproduction.md").exists()

    first = (tmp_path / "notes").read_text().splitlines()
    (tmp_path / "notes").unlink()
    done = run("toy_street", "reproduce", cwd=tmp_path, seeds="0 1", fails="", **variables)
    assert done.returncode == 0, done.stderr
    second = (tmp_path / "notes").read_text().splitlines()
    tests = [f"_seed{seed}_{ending}" for seed in (0, 1) for ending in ("image", "control", "finetune")]
    scored = [[line for line in lines if ".evaluate" in line] for lines in (first, second)]
    found = [line.split("toy_street")[1] for lines in scored for line in lines]
    for beside in ("finetune", "image control"):  # two scorings of a seed run side by side: each once, in its order
        endings = beside.split()
        assert [run for run in found if run.rpartition("_")[2] in endings] == [
            run for run in tests if run.rpartition("_")[2] in endings
        ]
    assert [run[: len("_seed0")] for run in found] == [run[: len("_seed0")] for run in tests]
    trained = {
        f"toy_street_seed{seed}_{e}" for seed in (0, 1) for e in ("layout", "image", "spade", "control", "finetune")
    }
    assert {line.split()[1] for line in second if ".evaluate" not in line} == trained  # those that are done find it so
    result = json.loads((tmp_path / "results/toy_street_reproduction.json").read_text())
    assert result["seeds"] == ["0", "1"] and result["rows"]["control"]["fsd"]["values"] == [1.0, 1.0]
    assert "| fine-tuned - control |" in (tmp_path / "results/toy_street_reproduction.md").read_text()


def test_what_usefulness_refuses_before_the_work(toy_store, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(NOTING_PYTHON)
    (tmp_path / "bin/python").chmod(0o755)
    places = {place: tmp_path / place for place in ("weights", "logs", "results", "notes")}
    variables = dict(places, python=sys.executable, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", store=toy_store)
    variables |= dict(seeds="0", fails="", checkpoint="a.pt")
    done = run("toy_street", "usefulness", cwd=tmp_path, shares="0.5 0.01", **variables)
    assert done.returncode == 2 and "--share 0.01 leaves none of 16 pairs" in done.stderr
    assert not (tmp_path / "notes").exists()  # no training has begun
    drawn = tmp_path / "results/toy_street_worth0_pairs"
    drawn.mkdir()  # not whole: there is no about.json
    (drawn / "drawn_by.txt").write_text("--checkpoint a.pt --num 16 \n")
    done = run("toy_street", "usefulness", cwd=tmp_path, shares="", trust="--keep_aligned 0.6", **variables)
    assert done.returncode == 2 and "worth0_pairs was drawn by --checkpoint a.pt --num 16" in done.stderr
    trained = [line.split()[1] for line in (tmp_path / "notes").read_text().splitlines()]
    assert trained == ["toy_street_worth0_real"]
