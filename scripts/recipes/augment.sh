# SB-GAN's claim about SPADE: does it draw better images of real layouts when it also learns from generated ones? For each
# of `seeds` (from the environment) SPADE is trained on with generated and real layouts, the layout generator held still,
# and, as control, as long with real ones alone. Both are scored on real layouts, with a segmentation network that learnt from
# real pairs. The table goes to RESULTS/NAME_augment.md and .json. Given again, it goes on where it was. Flags go to the
# scorings; `vgg`, from the environment, to SPADE's trainings (--no_vgg_loss).
take "weights logs results name" ${rest[@]+"${rest[@]}"}
seeds="${seeds:-0 1 2}" vgg="${vgg---no_vgg_loss}" base="$name" made=0
export weights logs results gpus name store
read -r -a seed_list <<<"$seeds"
runs=$((3 + 4 * ${#seed_list[@]}))
mkdir -p "$logs" "$results"

step() { # step NAME COMMAND...: one of the runs
    made=$((made + 1))
    progress="$made of $runs: " quiet "$@"
}

train() { step "$1" bash "$folder/$2.sh" "${@:3}"; } # train RUN RECIPE FLAGS...

score() { # score RUN
    if [ -e "$results/$1/scores.json" ]; then made=$((made + 1)); return; fi
    step "$1_scores" bash "$folder/test_finetune_end2end.sh" --name "$1" --no_copy_check --segmenter "$judge" \
        ${rest[@]+"${rest[@]}"}
}

train "${base}_layout" train_progressive_seg
train "${base}_spade" train_spade $vgg
train "${base}_segmenter" train_segmenter
judge="$(find "$weights/${base}_segmenter" -name 'segmenter_[0-9]*.pt' | sort -V | tail -n 1)"
for seed in "${seed_list[@]}"; do
    run="${base}_seed${seed}_augment"
    further=(--seed "$seed" --no_train_layout $vgg)
    train "$run" train_finetune_end2end --name "$run" "${further[@]}"
    further+=(--lambda_D2 0 --pretrain_epochs 0)
    train "${run}_control" train_finetune_end2end --name "${run}_control" "${further[@]}"
    score "$run"
    score "${run}_control"
done
python -m SBGAN.compare --table augment --results "$results" --name "$base" --seeds "${seeds// /,}"
