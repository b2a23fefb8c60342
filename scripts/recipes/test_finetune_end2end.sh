# Scores and pictures of stage 3. Further flags: python -m SBGAN.test_finetune_end2end --help
run SBGAN.test_finetune_end2end --results "$results" --name "${name}_finetune" "${scoring[@]}"
