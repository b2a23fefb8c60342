#!/usr/bin/env bash
# The paper's table: ProGAN, SB-GAN without fine-tuning, SB-GAN. Flags go to both tests, such as --fid_released.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
bash "$(dirname "${BASH_SOURCE[0]}")/test_progressive.sh" "$@"
bash "$(dirname "${BASH_SOURCE[0]}")/test_finetune_end2end.sh" "$@"
echo
python -m SBGAN.compare --results "$results" --name "$name"
