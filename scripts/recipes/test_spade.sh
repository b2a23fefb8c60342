# Scores and pictures of stage 2 alone, on real layouts. Further flags: python -m SPADE.test --help
run SPADE.test --results "$results" --name "${name}_spade" "${scoring[@]}"
