# What generated pairs are worth as data. For each of `seeds` a segmentation network learns from real pairs, from generated
# ones, and from both; for each of `shares` also from so few real pairs, alone and with those of a GAN that was trained on
# these few. All make as many steps, and all are scored on real test pairs. The table goes to RESULTS/NAME_usefulness.md and
# .json. Given again, it goes on where it was. Flags go to the trainings of the segmentation network.
# From the environment: seeds; shares, empty for none; gans, the seeds of GANs trained on few pairs, which the seeds take in
# turn; pairs, how many each GAN draws (as many as there are real ones); checkpoint, the GAN of all pairs, or with
# spade_checkpoint its stages 1 and 2 (NAME_finetune, which is trained if it is not there); trust, flags of the drawing such
# as --keep_aligned 0.6; mix, the share of generated pairs in a batch of both (0.5); vgg, flags of SPADE's trainings (--no_vgg_loss).
seeds="${seeds:-0 1 2}"
shares="${shares-0.1 0.25}"
gans="${gans:-$seeds}"
pairs="${pairs:-$(facts | cut -d ' ' -f 1)}"
vgg="${vgg---no_vgg_loss}" mix="${mix:-0.5}"
take "weights logs results name" ${rest[@]+"${rest[@]}"}
read -r -a seed_list <<<"$seeds"
read -r -a gan_list <<<"$gans"
read -r -a share_list <<<"$shares"
base="$name" whole="$store" made=0
export weights logs results gpus name store
if [ -n "${checkpoint:-}" ]; then
    model=(--checkpoint "$checkpoint" ${spade_checkpoint:+--spade_checkpoint "$spade_checkpoint"})
fi
runs=$((5 * ${#seed_list[@]} + ${#share_list[@]} * (1 + 3 * ${#gan_list[@]} + 3 * ${#seed_list[@]})))
if [ -z "${checkpoint:-}" ]; then runs=$((runs + 3)); fi
mkdir -p "$logs" "$results"

step() { # step NAME COMMAND...: one of the runs
    made=$((made + 1))
    progress="$made of $runs: " quiet "$@"
}

newest() { # newest RUN PREFIX: its last scheduled checkpoint
    (shopt -s nullglob && printf '%s\n' "$weights/$1/$2"_[0-9]*.pt) | sort -V | tail -n 1
}

gan() { # gan SEED: stages 1 to 3 as NAME_layout, NAME_spade, NAME_finetune, on the store
    step "${name}_layout" bash "$folder/train_progressive_seg.sh" --seed "$1"
    step "${name}_spade" bash "$folder/train_spade.sh" --seed "$1" $vgg
    step "${name}_finetune" bash "$folder/train_finetune_end2end.sh" --seed "$1" $vgg
}

segmenter() { # segmenter RUN FLAGS...: on the store's pairs and what flags say
    step "$1" bash "$folder/train_segmenter.sh" --name "$1" --seed "$seed" "${@:2}" ${rest[@]+"${rest[@]}"}
}

draw() { # draw RUN JUDGE MODEL...: pairs into RESULTS/RUN_pairs; the judge is asked where `trust` says so
    local out="$results/$1_pairs" wanted="${*:3} --num $pairs ${trust:-}" found
    if [ -d "$out" ]; then # whole or not: files that other flags drew would stay among the new ones
        found="$(cat "$out/drawn_by.txt" 2>/dev/null)" || found=unknown
        [ "$found" = "$wanted" ] || refuse "$out was drawn by $found, wanted $wanted; give another name"
    fi
    if [ -e "$out/about.json" ]; then made=$((made + 1)); return; fi # it is written last
    mkdir -p "$out" && echo "$wanted" >"$out/drawn_by.txt"
    step "$1_pairs" python -m SBGAN.generate "${@:3}" --out "$out" --overwrite --num "$pairs" \
        --seed $((1000000 * (seed + 1))) ${trust:+$trust --segmenter "$(newest "$2" segmenter)"}
}

score() { # score RUN MODEL...: alignment and GAN-test, by the network that learnt from real pairs
    local out="$results/$1_scores"
    if [ -n "$(find "$out" -name scores.json 2>/dev/null)" ]; then made=$((made + 1)); return; fi
    step "$1_scores" python -m SBGAN.evaluate "${@:2}" --store "$whole" --results "$out" "${scoring[@]}" \
        --no_copy_check --segmenter "$(newest "$1_real" segmenter)"
}

for share in ${share_list[@]+"${share_list[@]}"}; do # first, so that a share that leaves no pair is refused then
    few="${base}_share${share}_store"
    if [ -e "$results/$few/index.json" ]; then made=$((made + 1)); else
        step "$few" python -m datasets.prepare subset --store "$whole" --share "$share" --out "$results/$few"
    fi
done
if [ -z "${checkpoint:-}" ]; then
    gan 0
    model=(--checkpoint "$(newest "${base}_finetune" finetune)")
fi
for seed in "${seed_list[@]}"; do
    run="${base}_worth${seed}"
    segmenter "${run}_real"
    draw "$run" "${run}_real" "${model[@]}"
    score "$run" "${model[@]}"
    segmenter "${run}_generated" --pairs "$results/${run}_pairs" --mix 1
    segmenter "${run}_both" --pairs "$results/${run}_pairs" --mix "$mix"
done
for share in ${share_list[@]+"${share_list[@]}"}; do
    few="${base}_share$share"
    store="$results/${few}_store"
    for i in "${gan_list[@]}"; do
        name="${few}_gan$i"
        gan "$i"
    done
    for k in "${!seed_list[@]}"; do
        seed="${seed_list[k]}" run="${few}_worth${seed_list[k]}"
        segmenter "${run}_real"
        drawer="${few}_gan${gan_list[k % ${#gan_list[@]}]}_finetune"
        draw "$run" "${run}_real" --checkpoint "$(newest "$drawer" finetune)"
        segmenter "${run}_both" --pairs "$results/${run}_pairs" --mix "$mix"
    done
done
python -m SBGAN.compare --table usefulness --results "$results" --weights "$weights" --name "$base" --seeds "${seeds// /,}" \
    --shares "${shares// /,}"
