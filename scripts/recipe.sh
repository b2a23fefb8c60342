# Sourced by every recipe, after its settings.sh: makes the packed store if needed and runs one program on it.
#
# From settings.sh: dataset, height, width, prepare, stage1, stage2, stage3, scoring (arrays of flags).
# From the environment: gpus (processes, by torchrun), source, store, weights, logs, results, name, pro_iter, spade_epoch.
# A recipe's further flags go to its program, where they come last and so win; --source and --store are read here too.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
activate

name="${name:-$dataset}"
store="${store:-$root/data/${dataset}_${height}x${width}}"
weights="${weights:-$root/weights}"
logs="${logs:-$root/logs}"
results="${results:-$root/results}"
gpus="${gpus:-1}"
[[ "$gpus" =~ ^[1-9][0-9]*$ ]] || refuse "gpus is $gpus, but must be a number of processes from 1; mend the variable"
require_torch

# take NAMES ARGUMENTS...: --NAME VALUE and --NAME=VALUE become variables, all others the array `rest`.
take() {
    local names=" $1 " flag
    shift
    rest=()
    while [ $# -gt 0 ]; do
        flag="${1%%=*}"
        if [[ "$flag" != --* || "$names" != *" ${flag#--} "* ]]; then
            rest+=("$1")
            shift
            continue
        fi
        [ "$flag" = "$1" ] || set -- "$flag" "${1#*=}" "${@:2}"
        [[ -n "${2:-}" && "$2" != --* ]] || refuse "$flag: nothing after it; give the folder, or leave it out"
        printf -v "${flag#--}" %s "$2"
        shift 2
    done
}

prepare_store() {
    if [ -e "$store/index.json" ]; then return; fi
    local from=()
    if [ "$dataset" != toy_street ]; then # which is drawn: a `source` in the environment is another data set's
        [ -n "${source:-}" ] ||
            refuse "there is no packed store $store yet; add --source DIR, the folder that holds $dataset"
        from=(--source "$source")
    fi
    python -m datasets.prepare "$dataset" ${from[@]+"${from[@]}"} --out "$store" "${prepare[@]}"
}

# run MODULE FLAGS... -- ARGUMENTS...: a program with the recipe's flags, then the caller's.
run() {
    local module="$1" flags=()
    shift
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    take "source store" "$@"
    prepare_store
    flags=(--store "$store" --weights "$weights" "${flags[@]}" ${rest[@]+"${rest[@]}"})
    if [ "$gpus" -gt 1 ]; then
        # Stopped by a signal, a step and its checkpoint may take longer than torchrun's 30 s.
        torchrun --standalone --shutdown_timeout 120 --nproc_per_node "$gpus" -m -- "$module" "${flags[@]}"
    else
        python -m "$module" "${flags[@]}"
    fi
}

# compare ARGUMENTS...: both tests with the caller's flags, then the table of the paper.
compare() {
    take "source store weights results name" "$@"
    export source store weights results name
    bash "$root/scripts/$dataset/test_progressive.sh" ${rest[@]+"${rest[@]}"}
    bash "$root/scripts/$dataset/test_finetune_end2end.sh" ${rest[@]+"${rest[@]}"}
    echo
    python -m SBGAN.compare --results "$results" --name "$name"
}
