#!/usr/bin/env bash
# From a bare checkout to scored street scenes: sets up, draws the embedded data set, runs the four recipes on it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt
start=$SECONDS

recipes="$root/scripts/toy_street"
bash "$recipes/train_progressive_seg.sh"
bash "$recipes/train_spade.sh"
bash "$recipes/train_finetune_end2end.sh"
bash "$recipes/test_finetune_end2end.sh"

echo
echo "done in $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
echo "logs:     $root/logs; look at them with"
echo "          ${VIRTUAL_ENV:-$CONDA_PREFIX}/bin/tensorboard --logdir $root/logs"
