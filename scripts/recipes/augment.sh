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

once() { # once FOLDER PATTERN NAME COMMAND...: one of the runs, unless the folder has such a file
    made=$((made + 1))
    if [ -z "$(find "$1" -maxdepth 1 -name "$2" 2>/dev/null)" ]; then progress="$made of $runs: " quiet "${@:3}"; fi
}

train() { # train PREFIX RUN RECIPE FLAGS...
    once "$weights/$2" "$1_[0-9]*.pt" "$2" bash "$folder/$3.sh" "${@:4}"
}

score() { # score RUN
    once "$results/$1" scores.json "$1_scores" bash "$folder/test_finetune_end2end.sh" --name "$1" --no_copy_check \
        --segmenter "$judge" ${rest[@]+"${rest[@]}"}
}

train layout "${base}_layout" train_progressive_seg
train spade "${base}_spade" train_spade $vgg
train segmenter "${base}_segmenter" train_segmenter
judge="$(find "$weights/${base}_segmenter" -name 'segmenter_[0-9]*.pt' | sort -V | tail -n 1)"
for seed in "${seed_list[@]}"; do
    run="${base}_seed${seed}_augment"
    stage3="--seed $seed --no_train_layout $vgg"
    train finetune "$run" train_finetune_end2end --name "$run" $stage3
    train finetune "${run}_control" train_finetune_end2end --name "${run}_control" $stage3 --lambda_D2 0 --pretrain_epochs 0
    score "$run"
    score "${run}_control"
done
python -m SBGAN.compare --table augment --results "$results" --name "$base" --seeds "${seeds// /,}"
