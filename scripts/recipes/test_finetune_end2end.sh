# Scores and pictures of stage 3. Further flags: python -m SBGAN.evaluate --help
run SBGAN.evaluate --results "$results" --name "${name}_finetune" "${scoring[@]}"
