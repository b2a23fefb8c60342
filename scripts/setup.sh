# Sourced by the other scripts: `setup FILE` activates .venv (made if no environment is active) and installs FILE once.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1 # or a package called datasets where the caller stands would come first (Python >= 3.11)

activate() { # the active virtual environment, else the repository's own if it is there
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -f "$root/.venv/bin/activate" ]; then
        source "$root/.venv/bin/activate"
    fi
}

refuse() {
    echo "error: $1" >&2
    exit 2
}

setup() {
    local requirements="$root/$1" installed
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ ! -f "$root/.venv/bin/activate" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            refuse "python3 is missing or older than 3.10; install a newer one, or activate an environment that has one"
        echo "making $root/.venv"
        python3 -m venv "$root/.venv" ||
            refuse "$root/.venv cannot be made; install Python's venv (apt install python3-venv), or activate your own"
    fi
    activate
    # A copy of what was installed tells a second call that there is nothing to do.
    installed="${VIRTUAL_ENV:-$CONDA_PREFIX}/.sbgan-$1"
    if ! cat "$root/requirements.txt" "$requirements" | cmp -s - "$installed"; then
        echo "installing $1 into ${VIRTUAL_ENV:-$CONDA_PREFIX}"
        python -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
            refuse "$requirements cannot be installed; mend what pip says, or connect to the network, and run this again"
        cat "$root/requirements.txt" "$requirements" >"$installed"
    fi
}
