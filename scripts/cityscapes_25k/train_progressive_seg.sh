#!/usr/bin/env bash
# Stage 1: the layout GAN. Further flags: python -m SBGAN.train_progressive_seg --help
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
run SBGAN.train_progressive_seg --logs "$logs" --name "${name}_layout" "${stage1[@]}" -- "$@"
