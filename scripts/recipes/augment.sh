# SB-GAN's claim about SPADE: does it draw better images of real layouts when it also learns from generated ones? For each
# of `seeds` (from the environment) SPADE is trained on with generated and real layouts, the layout generator held still,
# and, as control, as long with real ones alone. Both are scored on real layouts, with a segmentation network that learnt from
# real pairs. The table goes to RESULTS/NAME_augment.md and .json. Given again, it goes on where it was. Flags go to the
# scorings; `vgg`, from the environment, to SPADE's trainings (--no_vgg_loss). Trains and scores two at a time.
take "weights logs results name" ${rest[@]+"${rest[@]}"}
seeds="${seeds:-0 1 2}" vgg="${vgg---no_vgg_loss}" base="$name" made=0
half_the_cores
export weights logs results gpus name store
read -r -a seed_list <<<"$seeds"
parts=$((1 + 2 * ${#seed_list[@]}))
mkdir -p "$logs" "$results"

part() { # part FIRST SECOND: the next of the parts, two programs beside each other
    made=$((made + 1))
    progress="$made of $parts: "
    both "$@"
}

train() { quiet "$1" bash "$folder/$2.sh" "${@:3}"; } # train RUN RECIPE FLAGS...

score() { # score RUN: unless it has been
    if [ ! -e "$results/$1/scores.json" ]; then
        quiet "$1_scores" bash "$folder/test_finetune_end2end.sh" --name "$1" --no_copy_check --segmenter "$judge" \
            ${rest[@]+"${rest[@]}"}
    fi
}

spade() { train "${base}_spade" train_spade $vgg; }

layout_and_segmenter() {
    train "${base}_layout" train_progressive_seg
    train "${base}_segmenter" train_segmenter
}

further() { train "$1" train_finetune_end2end --name "$1" --seed "$seed" --no_train_layout $vgg "${@:2}"; }
on_both() { further "$run"; }
on_real() { further "${run}_control" --lambda_D2 0 --pretrain_epochs 0; }
score_both() { score "$run"; }
score_real() { score "${run}_control"; }

part spade layout_and_segmenter
judge="$(find "$weights/${base}_segmenter" -name 'segmenter_[0-9]*.pt' | sort -V | tail -n 1)"
for seed in "${seed_list[@]}"; do
    run="${base}_seed${seed}_augment"
    part on_both on_real
    part score_both score_real
done
python -m SBGAN.compare --table augment --results "$results" --name "$base" --seeds "${seeds// /,}"
