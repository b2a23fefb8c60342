# Stage 3: both joined. Further flags: python -m SBGAN.train_finetune_end2end --help
pro_iter="${pro_iter:-}"       # iteration of stage 1 to start from; empty: the latest
spade_epoch="${spade_epoch:-}" # epoch of stage 2 to start from; empty: the latest
run SBGAN.train_finetune_end2end --logs "$logs" --name "${name}_finetune" \
    --layout_name "${name}_layout" --spade_name "${name}_spade" \
    ${pro_iter:+--pro_iter "$pro_iter"} ${spade_epoch:+--spade_epoch "$spade_epoch"} "${stage3[@]}"
