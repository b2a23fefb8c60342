#!/usr/bin/env bash
# Stage 2: SPADE on real layouts. Further flags: python -m SPADE.train --help
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
run SPADE.train --logs "$logs" --name "${name}_spade" "${stage2[@]}" -- "$@"
