#!/usr/bin/env bash
# Scores and pictures of stage 3. Further flags: python -m SBGAN.test_finetune_end2end --help
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
run SBGAN.test_finetune_end2end --results "$results" --name "${name}_finetune" "${scoring[@]}" -- "$@"
