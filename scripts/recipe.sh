# Sourced by every recipe, after its settings.sh: makes the packed store if needed and runs one program on it.
#
# From settings.sh: dataset, height, width, prepare, stage1, stage2, stage3, scoring (arrays of flags).
# From the environment: gpus (processes, by torchrun), source, store, weights, logs, results, name, pro_iter, spade_epoch.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
activate

name="${name:-$dataset}"
store="${store:-$root/data/${dataset}_${height}x${width}}"
weights="${weights:-$root/weights}"
logs="${logs:-$root/logs}"
results="${results:-$root/results}"
places=(--store "$store" --weights "$weights")

prepare_store() {
    if [ -e "$store/index.json" ]; then return; fi
    if [ -z "${source:-}" ] && [ "$dataset" != toy_street ]; then
        refuse "there is no packed store $store yet; add --source DIR, the folder that holds $dataset"
    fi
    python -m datasets.prepare "$dataset" ${source:+--source "$source"} --out "$store" "${prepare[@]}"
}

# run MODULE FLAGS... -- ARGUMENTS...: the recipe's flags, then the caller's, of which --source DIR is for the store.
run() {
    local module="$1" flags=()
    shift
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    while [ $# -gt 0 ]; do
        case "$1" in
            --source)
                [ -n "${2:-}" ] || refuse "--source: nothing after it; give the folder that holds $dataset"
                source="$2"
                shift 2
                ;;
            --source=*) source="${1#--source=}"; shift ;;
            *) flags+=("$1"); shift ;;
        esac
    done
    prepare_store
    if [ "${gpus:-1}" -gt 1 ]; then
        torchrun --standalone --nproc_per_node "$gpus" -m -- "$module" "${places[@]}" "${flags[@]}"
    else
        python -m "$module" "${places[@]}" "${flags[@]}"
    fi
}
