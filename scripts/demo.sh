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

# Stages 1 and 2 need nothing of each other. Later ones keep their share, too: anything else may be running.
half_the_cores
mkdir -p "$root/logs"
beside() { # beside RECIPE FLAGS...: its progress bar goes to a file
    local file="$root/logs/demo_$1.txt"
    bash "$recipes/$1.sh" "${@:2}" >"$file" 2>&1 || { tail -n 5 "$file" >&2; return 1; }
}
stage1() { beside train_progressive_seg; }
stage2() { bash "$recipes/train_spade.sh"; }
segmenter() { beside train_segmenter --steps 500; } # a third of the recipe's: about as long as stage 3
stage3() { bash "$recipes/train_finetune_end2end.sh"; }
echo "stage 1 runs beside stage 2; its progress bar is in logs/demo_train_progressive_seg.txt"
both stage1 stage2
echo "a segmentation network, for alignment and GAN-test, learns beside stage 3; see logs/demo_train_segmenter.txt"
both segmenter stage3
judge="$(find "${weights:-$root/weights}/toy_street_segmenter" -name 'segmenter_[0-9]*.pt' | sort -V | tail -n 1)"
# Scored by two processes, or one core would idle; a GPU serves one.
processes="$(python -c 'import torch; print(1 if torch.cuda.is_available() else 2)')"
gpus="${gpus:-$processes}" bash "$recipes/test_finetune_end2end.sh" --no_copy_check --segmenter "$judge"

echo
echo "done in $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
echo "pictures: $root/results/toy_street_finetune"
echo "logs:     $root/logs, to look at with"
echo "          $(environment)/bin/tensorboard --logdir $root/logs"
echo "page:     python -m SBGAN.app, to draw on what was trained; pip install -r requirements-app.txt first"
