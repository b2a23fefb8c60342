# Scores and pictures of the baseline. Further flags: python -m SBGAN.evaluate --help
run SBGAN.evaluate --results "$results" --name "${name}_image" "${scoring[@]}"
