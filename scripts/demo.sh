#!/usr/bin/env bash
# From a bare checkout to scored street scenes: sets up, draws the embedded data set, runs the four recipes on it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt
start=$SECONDS

recipes="$root/scripts/toy_street"
(
    source "$recipes/settings.sh"
    source "$root/scripts/recipe.sh"
    prepare_store
)

# Stages 1 and 2 need nothing of each other: without a GPU each gets half of the cores.
cores="$(python -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')"
# Later stages keep that: threads on every core stall each other ten-fold when anything else runs.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(((cores + 1) / 2))}"
mkdir -p "$root/logs"
stage1() {
    local file="$root/logs/demo_stage1.txt"
    bash "$recipes/train_progressive_seg.sh" >"$file" 2>&1 || { tail -n 5 "$file" >&2; return 1; }
}
stage2() { bash "$recipes/train_spade.sh"; }
echo "stage 1 runs beside stage 2; its progress bar is in logs/demo_stage1.txt"
both stage1 stage2

bash "$recipes/train_finetune_end2end.sh"
bash "$recipes/test_finetune_end2end.sh" --no_copy_check

echo
echo "done in $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
echo "pictures: $root/results/toy_street_finetune"
echo "logs:     $root/logs, to look at with"
echo "          $(environment)/bin/tensorboard --logdir $root/logs"
