#!/usr/bin/env bash
# All that a machine with a GPU can tell in MINUTES (default 9), without a network: bash scripts/gpu_report.sh [MINUTES]
#
# The python that is active is used, with its PyTorch (2.9 or newer); packages that it lacks are taken from wheels=DIR.
# Figures are in the folder out=DIR (default gpu_report) as soon as they are there, so that a run that is cut off leaves
# what it has: machine.txt, parts.txt (how each ended), checks.txt (tests, resume, loader), benchmark.txt and .jsonl,
# training.txt, scores.json, summary.md.
# For a trial elsewhere: device, cases, precisions, compiled (its precisions), sizes, images, height, widths, batch, tests.

set -uo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
export PYTHONPATH="$root" PYTHONSAFEPATH=1 CUBLAS_WORKSPACE_CONFIG=:4096:8

refuse() {
    echo "error: $*" >&2
    exit 2
}

minutes="${1:-9}"
[[ "$minutes" =~ ^[0-9]+$ && "$minutes" -ge 1 ]] || refuse "MINUTES is $minutes, but must be a number from 1; mend it"
end=$((SECONDS + 60 * minutes - 5))
python="$(command -v python || command -v python3)" || refuse "there is no python here; activate an environment"
out="${out:-gpu_report}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" || refuse "$out cannot be written; name another folder by out=DIR"
rm -f "$out"/{machine,parts,checks,benchmark,training}.txt "$out"/{benchmark.jsonl,scores.json,summary.md}

# part NAME SECONDS FILE COMMAND...: what it says goes to FILE, how it ended and how long it took to parts.txt.
part() {
    local name="$1" limit="$2" file="$out/$3" began=$SECONDS left=$((end - SECONDS)) status
    limit=$((limit < left ? limit : left))
    if [ "$limit" -lt 1 ]; then
        echo "$name: no time was left" >>"$out/parts.txt"
        return 1
    fi
    echo "== $name" | tee -a "$file"
    timeout -k 10 "$limit" "${@:4}" 2>&1 | sed -u 's/.*\r//' >>"$file" # of progress bars the end
    status=${PIPESTATUS[0]}
    case $status in
        0) echo "$name: done in $((SECONDS - began)) s" ;;
        124 | 137) echo "$name: cut off after $limit s" ;;
        *) echo "$name: failed with status $status after $((SECONDS - began)) s" ;;
    esac | tee -a "$out/parts.txt"
    "$python" scripts/gpu_summary.py "$out" >"$work/summary" 2>"$work/complaint" && cp "$work/summary" "$out/summary.md"
    return $status
}

share() { # a hundredth of the whole time, so many times
    echo $((60 * minutes * $1 / 100))
}

figures() { # FILE: a line of the figures, which are there also where the program was cut off after it had measured
    [ ! -s "$1" ] || { tr -d '\n' <"$1"; echo; } >>"$out/benchmark.jsonl"
}

# --- Packages, machine ---
kept="$("$python" scripts/kept_torch.py)" || exit $?
[ -n "$kept" ] || refuse "$python has no PyTorch; activate an environment with PyTorch 2.9 or newer"
if [ -n "${wheels:-}" ]; then
    echo "$kept" >"$work/constraints"
    offline=(--quiet --no-index --find-links "$wheels" -c "$work/constraints")
    "$python" -m pip install "${offline[@]}" -r requirements.txt pytest ||
        refuse "requirements.txt and pytest cannot be installed from wheels=$wheels; add what pip misses"
fi
lacking="$("$python" -c '
from importlib.util import find_spec
names = "numpy PIL scipy tqdm tensorboardX tensorboard torchvision torch_fidelity pytest".split()
print(*(name for name in names if not find_spec(name)))')"
[ -z "$lacking" ] || refuse "$python lacks $lacking; pass wheels=DIR, with wheels of requirements.txt and pytest"
device="${device:-$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')}"
versions='import platform, sys, torch
from importlib.metadata import version
print("python", sys.version.split()[0], "torch", torch.__version__, "torchvision", version("torchvision"))
print("CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version(), platform.platform())
for i in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_properties(i))'
part versions 60 machine.txt "$python" -c "$versions"
{
    echo "revision $(git rev-parse --short HEAD 2>/dev/null || echo unknown), device $device, $(nproc) cores"
    nvidia-smi 2>/dev/null || echo "no nvidia-smi"
} >>"$out/machine.txt"

# --- Tests that need a GPU ---
part tests "$(share 22)" checks.txt "$python" -m pytest -q -p no:cacheprovider -m cuda --durations 5 ${tests:-tests}

# --- Each stage's step at published widths: float32, TF32, bf16 beside the plain form ---
for case in ${cases:-inference stage_3 stage_2 stage_1}; do
    batch=8
    if [ "$case" = inference ]; then batch=16; fi
    flags=(--cases "$case" --batch_size "$batch" --layout_batch_size 16 --precisions "${precisions:-fp32,tf32,bf16}")
    flags+=(--device "$device" --json "$work/$case.json" ${sizes:-})
    part "benchmark of $case" "$(share 11)" benchmark.txt "$python" -m SBGAN.benchmark "${flags[@]}"
    figures "$work/$case.json"
done

# --- A run in two parts ends with the bits of a run in one ---
places=(--weights "$work/weights" --logs "$work/logs" --device "$device")
tiny=(--height 32 --width 64 --num_train 16 --num_val 8)
part "a tiny data set" 60 checks.txt "$python" -m datasets.prepare toy_street --out "$work/tiny" "${tiny[@]}"
resumed=("$python" -m SPADE.train --store "$work/tiny" "${places[@]}" --deterministic --batch_size 8 --niter_decay 0)
resumed+=(--ngf 8 --ndf 8 --hidden 16 --no_vgg_loss --evaluate_every 0)
part "a run in one" "$(share 3)" checks.txt "${resumed[@]}" --name one --niter 2 &&
    part "the first half of another" "$(share 3)" checks.txt "${resumed[@]}" --name two --niter 1 &&
    part "its second half" "$(share 3)" checks.txt "${resumed[@]}" --name two --niter 2 &&
    part "exact resume" 60 checks.txt "$python" scripts/gpu_summary.py --same "$work/weights"/{one,two}/spade_2.pt

# --- How fast the data come ---
part loader "$(share 15)" checks.txt "$python" -m datasets.benchmark --seconds 1 --pairs 128

# --- All stages ---
height="${height:-128}"
source scripts/toy_street/settings.sh # its rates and weights; wider networks
stage2+=(${widths:---ngf 32 --hidden 64 --ndf 32} --batch_size "${batch:-8}")
stage3+=(--batch_size "${batch:-8}")
part "toy_street" "$(share 10)" training.txt "$python" -m datasets.prepare toy_street --out "$work/store" \
    --height "$height" --width $((2 * height)) --weather clear --num_train "${images:-672}" --num_val "${images:-256}"
places+=(--store "$work/store")
part "stage 1" "$(share 15)" training.txt "$python" -m SBGAN.train_progressive_seg "${places[@]}" --name layout \
    "${stage1[@]}"
part "stage 2" "$(share 15)" training.txt "$python" -m SPADE.train "${places[@]}" --name spade "${stage2[@]}"
stage3+=(--name joined --layout_name layout --spade_name spade)
scoring+=(--store "$work/store" --device "$device" --results "$work/results" --no_copy_check)
part "stage 3" "$(share 15)" training.txt "$python" -m SBGAN.train_finetune_end2end "${places[@]}" "${stage3[@]}" &&
    part scores "$(share 10)" training.txt "$python" -m SBGAN.evaluate "${scoring[@]}" \
        --checkpoint "$work"/weights/joined/finetune_*.pt &&
    cp "$work"/results/joined/*/scores.json "$out/scores.json"

# --- What torch.compile would gain, in the time that is left: to begin takes minutes ---
flags=(--cases stage_2 --batch_size 8 --precisions "${compiled:-bf16}" --compile --no_memory --device "$device")
part "benchmark of stage_2, compiled" "$(share 50)" benchmark.txt "$python" -m SBGAN.benchmark "${flags[@]}" \
    --json "$work/compiled.json" ${sizes:-}
figures "$work/compiled.json"
"$python" scripts/gpu_summary.py "$out" >"$out/summary.md"
cat "$out/summary.md"
