# What the recipes are made of: makes the packed store if needed and runs one program on it. Sourced after settings.sh.
#
# From settings.sh: dataset, height, width, prepare, stage1, stage2, stage3, scoring (arrays of flags); where the RGB
# baseline has numbers of its own, baseline; where its name for datasets.prepare is another, source_kind; where numbers
# depend on the store, a function `choose` that sets them.
# From the environment: gpus (processes, by torchrun), source, store, weights, logs, results, name, pro_iter, spade_epoch.
# A recipe's further flags go to its program, where they come last and so win; `begin` takes those that are read here.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
activate

name="${name:-$dataset}"
store="${store:-$root/data/${dataset}_${height}x${width}}"
weights="${weights:-$root/weights}"
logs="${logs:-$root/logs}"
results="${results:-$root/results}"
gpus="${gpus:-1}"
case "${source_kind:-$dataset}" in # flags that say how the store is made
    toy_street) preparing="" ;; # it is drawn: a `source` in the environment is another data set's
    folder) preparing="source images labels labelspace palette ignore most_ignored image_ending label_ending" ;;
    *) preparing="source" ;;
esac
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

# begin ARGUMENTS...: takes what the recipes themselves read, and leaves the program's flags in `rest`.
begin() {
    if [ "${source_kind:-$dataset}" = toy_street ] && [[ " $*" == *" --source"[=\ ]* ]]; then
        refuse "--source is given, but toy_street is drawn by program and read from no folder; leave it out"
    fi
    take "store $preparing" "$@"
    prepare_store
    if declare -F choose >/dev/null; then
        local found # by itself: an assignment beside `local` would hide that `facts` failed
        found="$(facts)"
        choose $found
    fi
}

prepare_store() {
    if [ -e "$store/index.json" ]; then
        local flag dropped=
        for flag in $preparing; do [ -z "${!flag:-}" ] || dropped+=" --$flag ${!flag}"; done
        [ -z "$dropped" ] || echo "note: $store is there already, so$dropped changes nothing; delete it to prepare it anew" >&2
        return
    fi
    local from=() missing="there is no packed store $store yet; add --source DIR, the folder that holds"
    case "${source_kind:-$dataset}" in
        toy_street) ;;
        folder)
            images="${images:-${source:+$source/images}}"
            labels="${labels:-${source:+$source/labels}}"
            [[ -n "$images" && -n "$labels" ]] || refuse "$missing images and labels, or --images DIR --labels DIR"
            for flag in $preparing; do
                if [ "$flag" != source ] && [ -n "${!flag:-}" ]; then from+=("--$flag" "${!flag}"); fi
            done
            ;;
        *)
            [ -n "${source:-}" ] || refuse "$missing $dataset"
            from=(--source "$source")
            ;;
    esac
    python -m datasets.prepare "${source_kind:-$dataset}" ${from[@]+"${from[@]}"} --out "$store" "${prepare[@]}"
}

facts() { # of the store: training images in an epoch, rows, columns, classes
    python -c '
import sys
from datasets.errors import exit_on_user_error
from datasets.packed import open_store
store = exit_on_user_error(open_store)(sys.argv[1])
print(store["train"].draws_per_epoch, store.height, store.width, store.label_space.num_classes)' "$store"
}

# run MODULE FLAGS...: a program with the recipe's flags, then the caller's.
run() {
    local module="$1" flags
    flags=(--store "$store" --weights "$weights" "${@:2}" ${rest[@]+"${rest[@]}"})
    if [ "$gpus" -gt 1 ]; then
        # Stopped by a signal, a step and its checkpoint may take longer than torchrun's 30 s.
        torchrun --standalone --shutdown_timeout 120 --nproc_per_node "$gpus" -m -- "$module" "${flags[@]}"
    else
        python -m "$module" "${flags[@]}"
    fi
}

quiet() { # quiet NAME COMMAND...: its output goes to LOGS/NAME.txt; its last lines are shown where it fails
    local file="$logs/$1.txt"
    echo "$(date +%H:%M) ${progress:-}$1"
    "${@:2}" >"$file" 2>&1 || {
        local status=$?
        echo "error: $1 failed; its output is $file:" >&2
        tail -n 5 "$file" >&2
        return $status
    }
}
