# Scores and pictures of the baseline. Further flags: python -m SBGAN.test_progressive --help
run SBGAN.test_progressive --results "$results" --name "${name}_image" "${scoring[@]}"
