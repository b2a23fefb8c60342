#!/usr/bin/env bash
# The paper's table: ProGAN, SB-GAN without fine-tuning, SB-GAN. Flags go to both tests, such as --fid_released;
# --name NAME is that of the runs NAME_image and NAME_finetune.
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
compare "$@"
