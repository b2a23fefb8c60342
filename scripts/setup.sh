# Sourced by the other scripts: `setup FILE` activates .venv (made if no environment is active) and installs FILE once.
# Conda's base environment does not count as active: it is everybody's, and conda itself lives in it.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1 # or a package called datasets where the caller stands would come first (Python >= 3.11)

refuse() {
    echo "error: $*" >&2
    exit 2
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

require_torch() {
    python -c 'import sys, importlib.util; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null ||
        refuse "$(command -v python || echo python) has no PyTorch; let bash scripts/demo.sh set up $root/.venv," \
            "or activate an environment with requirements.txt"
}

setup() {
    local requirements="$root/$1" installed folder
    if [ -z "$(environment)" ] && [ ! -f "$root/.venv/bin/activate" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            refuse "python3 is missing or older than 3.10; install a newer one, or activate an environment that has one"
        echo "making $root/.venv${CONDA_PREFIX:+ (the base environment of conda is left alone)}"
        python3 -m venv "$root/.venv" ||
            refuse "$root/.venv cannot be made; install Python's venv (apt install python3-venv), or activate your own"
    fi
    activate
    # A copy of what was installed tells a second call that there is nothing to do.
    folder="$(environment)"
    installed="$folder/.sbgan-$1"
    if ! cat "$root/requirements.txt" "$requirements" | cmp -s - "$installed"; then
        echo "installing $1 into $folder"
        python -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
            refuse "$requirements cannot be installed; mend what pip says, or connect to the network, and run this again"
        cat "$root/requirements.txt" "$requirements" >"$installed"
    fi
}
