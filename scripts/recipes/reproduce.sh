# The paper's comparison in miniature, for each of `seeds`: the RGB baseline, stages 1 and 2, stage 3, and its control, as
# many further steps in which the image critic weighs nothing. All without VGG-19. Trains and scores two at a time, and writes
# the table to RESULTS/NAME_reproduction.md and .json. Given again, it goes on where it was. Flags go to the scorings:
# --feature_extractor FILE for a distance in features where there is no FID Inception, --no_fid for none.
take "weights logs results name" ${rest[@]+"${rest[@]}"}
seeds="${seeds:-0 1 2}"
base="$name"
half_the_cores
export store weights logs results gpus name
mkdir -p "$logs" "$results"

train() { quiet "${name}_$1" bash "$folder/$2.sh" --seed "$seed" "${@:3}"; }

score() { # score ENDING RECIPE FLAGS...: unless it has been
    if [ ! -e "$results/${name}_$1/scores.json" ]; then
        quiet "${name}_$1_scores" bash "$folder/$2.sh" --name "${name}_$1" "${@:3}"
    fi
}

layouts_and_baseline() {
    train layout train_progressive_seg
    train image train_progressive
}

spade() { train spade train_spade --no_vgg_loss; }

control() { train control train_finetune_end2end --name "${name}_control" --no_vgg_loss --lambda_D2 0 --pretrain_epochs 0; }

finetune() { train finetune train_finetune_end2end --no_vgg_loss; }

score_baseline_and_control() {
    score image test_progressive ${rest[@]+"${rest[@]}"}
    score control test_finetune_end2end --no_copy_check ${rest[@]+"${rest[@]}"}
}

score_finetune() { score finetune test_finetune_end2end --no_copy_check ${rest[@]+"${rest[@]}"}; }

for seed in $seeds; do
    name="${base}_seed$seed"
    both layouts_and_baseline spade
    both control finetune
    both score_baseline_and_control score_finetune
done
python -m SBGAN.compare --results "$results" --name "$base" --seeds "${seeds// /,}"
