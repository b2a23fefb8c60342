# Sourced by the other scripts: `setup FILE` activates .venv (made if no environment is active) and installs FILE once.
# A PyTorch that is there and fits (2.9 or newer) stays as it is, and so does its torchvision.
# Conda's base environment does not count as active: it is everybody's, and conda itself lives in it.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1 # or a package called datasets where the caller stands would come first (Python >= 3.11)

refuse() {
    echo "error: $*" >&2
    exit 2
}

half_the_cores() { # to each of two programs beside each other: threads on every core would stall each other ten-fold
    local cores
    cores="$(python -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')"
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(((cores + 1) / 2))}"
}

# both FIRST SECOND: two functions side by side. When one fails, or this script is stopped, what the other runs is ended.
both() {
    local status=0
    set -m # a process group for each: a signal to a function's shell alone would leave its programs running
    (set +m; "$1") &
    first=$!
    (set +m; "$2") &
    second=$!
    set +m
    trap end_both EXIT
    while kill -0 $first 2>/dev/null && kill -0 $second 2>/dev/null; do sleep 0.2; done
    kill -0 $first 2>/dev/null || wait $first || status=$?
    kill -0 $second 2>/dev/null || wait $second || status=$?
    if [ $status = 0 ]; then
        wait $first && wait $second || status=$?
    fi
    [ $status = 0 ] || end_both
    trap - EXIT
    return $status
}

end_both() { # trainings save what they have before they leave
    kill -- -$first 2>/dev/null || true
    kill -- -$second 2>/dev/null || true
    wait $first $second || true
}

environment() { # folder of the active environment, if there is one
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        echo "$VIRTUAL_ENV"
    elif [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
        echo "${CONDA_PREFIX:-}"
    fi
}

activate() { # the repository's own environment, if none is active and it is there
    if [ -z "$(environment)" ] && [ -f "$root/.venv/bin/activate" ]; then
        source "$root/.venv/bin/activate"
    fi
}

kept_torch() { # sets `kept`: pip's constraints for the PyTorch that is installed; empty if there is none
    command -v python >/dev/null || refuse "there is no python here; activate an environment that has one"
    kept="$(python "$root/scripts/kept_torch.py")" || exit $?
}

require_torch() {
    local advice="let bash scripts/demo.sh set up $root/.venv, or activate an environment with requirements.txt"
    command -v python >/dev/null || refuse "there is no python here; $advice"
    kept_torch
    [ -n "$kept" ] || refuse "$(command -v python) has no PyTorch; $advice"
}

setup() {
    local requirements="$root/$1" installed folder constraints
    if [ -z "$(environment)" ] && [ ! -f "$root/.venv/bin/activate" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            refuse "python3 is missing or older than 3.10; install a newer one, or activate an environment that has one"
        echo "making $root/.venv${CONDA_PREFIX:+ (the base environment of conda is left alone)}"
        python3 -m venv "$root/.venv" ||
            refuse "$root/.venv cannot be made; install Python's venv (apt install python3-venv), or activate your own"
    fi
    activate
    kept_torch # first, since what was installed once may have been changed since
    folder="$(environment)"
    installed="$folder/.sbgan-$1" # a copy of what was installed: a second call has nothing to do
    if [ -z "$kept" ] || ! cat "$root/requirements.txt" "$requirements" | cmp -s - "$installed"; then
        constraints="$root/constraints.txt"
        if [ -n "$kept" ]; then
            constraints="$installed.constraints"
            echo "$kept" >"$constraints"
        fi
        echo "installing $1 into $folder${kept:+ beside $(echo $kept)}"
        python -m pip install --quiet --disable-pip-version-check -r "$requirements" -c "$constraints" ||
            refuse "$requirements cannot be installed; mend what pip says, or connect to the network, and run this again"
        cat "$root/requirements.txt" "$requirements" >"$installed"
    fi
}
