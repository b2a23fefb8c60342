"""scripts/gpu_report.sh: what it calls and says, what it leaves when it is cut off; and a whole run of tiny sizes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ["benchmark.jsonl", "benchmark.txt", "checks.txt", "machine.txt", "parts.txt", "scores.json", "summary.md"]
FILES += ["training.txt"]
# Stands in for the python that is active: keeps its arguments, and does nothing but what the script reads.
PYTHON = f"""#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
    *kept_torch.py) echo torch==2.9.0 ;;
    *gpu_summary.py*--same*) echo "exact resume" ;;
    *gpu_summary.py*) exec "{sys.executable}" "$@" ;;
    *find_spec*) echo "${{LACKS:-}}" ;;
    *"SBGAN.benchmark --cases ${{HANGS:-none}}"*) sleep 60 ;;
    *"SBGAN.benchmark --cases ${{FAILS:-none}}"*) echo "out of memory"; exit 1 ;;
    *SBGAN.benchmark*)
        while [ "$1" != --cases ]; do shift; done
        sed "s/CASE/$2/" "$RECORD" >"$(echo "$*" | sed 's/.*--json \\([^ ]*\\).*/\\1/')" ;;
    *datasets.benchmark*) echo "pairs          823      400        10.1      81      30" ;;
    *SBGAN.evaluate*)
        folder="$(echo "$*" | sed 's/.*--results \\([^ ]*\\).*/\\1/')/joined/finetune_1"
        mkdir -p "$folder"
        echo '{{"scores": {{"generated": {{"fsd": 0.25, "swd": {{"mean": 51.5}}}}}}}}' >"$folder/scores.json" ;;
    *) echo "10 passed, 2 skipped in 0.31s" ;;
esac
"""
FORM = {"seconds": 0.5, "images_per_second": 16.0, "ratio": 2.0, "ratios": [1.5, 2.0, 2.5], "rate_share": 0.42}
RECORD = {
    "machine": {"device": "A GPU"},
    "settings": {"height": 256, "repeats": 5},
    "cases": {"CASE": {"product bf16": FORM | {"peak_bytes": 3 << 20, "launches": 1234}}},
}


@pytest.fixture
def begin(tmp_path):
    """Begins the script with variables of the environment; gives its process."""

    def begin(minutes="1", **variables):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/python").write_text(PYTHON)
        (tmp_path / "bin/python").chmod(0o755)
        (tmp_path / "record.json").write_text(json.dumps(RECORD, indent=1))
        own = {"CALLS": tmp_path / "calls", "RECORD": tmp_path / "record.json", "out": tmp_path / "out"}
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path} | {name: str(value) for name, value in (own | variables).items()}
        command = ["bash", ROOT / "scripts/gpu_report.sh", minutes]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return subprocess.Popen(command, env=environment, **pipes)

    return begin


def test_what_it_does_and_says(begin, tmp_path):
    process = begin(device="cuda", FAILS="stage_3")
    output, complaints = process.communicate()
    assert process.returncode == 0 and not complaints
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    summary = (tmp_path / "out/summary.md").read_text()
    assert output.endswith(summary)
    for case in ("inference", "stage_2", "stage_1"):
        row = f"| {case}, product bf16 | 0.5000 | 16.0 | 2.00 (1.50 - 2.50) | 42% | 3 | 1234 |"
        assert summary.count(row) == (2 if case == "stage_2" else 1)  # and the one with what is compiled
    for words in ("gives 823 pairs", "- generated: FSD 0.25, SWD 51.5", "benchmark of stage_3: failed with status 1"):
        assert words in summary
    calls = (tmp_path / "calls").read_text().splitlines()
    modules = [line.split()[1] for line in calls if line.startswith("-m")]
    order = ["pytest", *["SBGAN.benchmark"] * 4, "datasets.prepare", *["SPADE.train"] * 3, "datasets.benchmark"]
    order += ["datasets.prepare", "SBGAN.train_progressive_seg", "SPADE.train", "SBGAN.train_finetune_end2end"]
    assert modules == [*order, "SBGAN.evaluate", "SBGAN.benchmark"]
    benchmark = next(line for line in calls if "--cases inference" in line)
    assert "--batch_size 16" in benchmark and "fp32,tf32,bf16" in benchmark and "--ngf" not in benchmark


def test_a_run_that_is_cut_off_leaves_what_it_has(begin, tmp_path):
    process, parts = begin(device="cuda", HANGS="stage_3"), tmp_path / "out/benchmark.txt"
    for _ in range(600):
        if parts.exists() and "stage_3" in parts.read_text():
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    summary = (tmp_path / "out/summary.md").read_text()
    assert "tests: done in" in summary and "benchmark of inference: done in" in summary and "stage_2" not in summary


@pytest.mark.parametrize(
    "minutes, variables, words",
    [("many", {}, "MINUTES is many"), ("1", {"LACKS": "tqdm scipy"}, "lacks tqdm scipy; pass wheels=DIR")],
)
def test_user_errors(begin, tmp_path, minutes, variables, words):
    process = begin(minutes, **variables)
    _, complaints = process.communicate()
    assert process.returncode == 2 and complaints.count("\n") == 1 and words in complaints


@pytest.mark.soak
def test_tiny_sizes_on_the_cpu(tmp_path):
    sizes = "--height 64 --layout_height 16 --joint_layout_height 16 --upsampling normal --ngf 2 --hidden 8 --ndf 2"
    sizes += " --fmap_base 64 --fmap_max 8 --repeats 1 --no_memory"
    shorter = {
        "device": "cpu",
        "out": tmp_path,
        "tests": "tests/SBGAN/test_cuda.py",
        "sizes": sizes,
        "precisions": "fp32",
    }
    shorter |= {"images": 16, "height": 64, "widths": "--ngf 2 --hidden 4 --ndf 2", "batch": 4}
    environment = os.environ | {name: str(value) for name, value in shorter.items()}
    subprocess.run(["bash", ROOT / "scripts/gpu_report.sh"], env=environment, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    parts = (tmp_path / "parts.txt").read_text().splitlines()
    assert len(parts) == 18 and all(": done in" in line for line in parts), parts
