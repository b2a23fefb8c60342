# Scores and pictures of stage 2 alone, on real layouts. Further flags: python -m SBGAN.evaluate --help
run SBGAN.evaluate --results "$results" --name "${name}_spade" "${scoring[@]}"
