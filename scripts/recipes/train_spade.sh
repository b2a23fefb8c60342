# Stage 2: SPADE on real layouts. Further flags: python -m SPADE.train --help
run SPADE.train --logs "$logs" --name "${name}_spade" "${stage2[@]}"
