#!/usr/bin/env bash
# Scores and pictures of the baseline. Further flags: python -m SBGAN.test_progressive --help
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
run SBGAN.test_progressive --results "$results" --name "${name}_image" "${scoring[@]}" -- "$@"
