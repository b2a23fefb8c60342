#!/usr/bin/env bash
# Scores and pictures of stage 2 alone, on real layouts. Further flags: python -m SPADE.test --help
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
run SPADE.test --results "$results" --name "${name}_spade" "${scoring[@]}" -- "$@"
