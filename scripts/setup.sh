# Sourced by the other scripts: `setup FILE` activates .venv (made if no environment is active) and installs FILE once.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

activate() { # the active virtual environment, else the repository's own if it is there
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -f "$root/.venv/bin/activate" ]; then
        source "$root/.venv/bin/activate"
    fi
}

setup() {
    local requirements="$root/$1" installed
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ ! -f "$root/.venv/bin/activate" ]; then
        echo "making $root/.venv"
        python3 -m venv "$root/.venv"
    fi
    activate
    # A copy of what was installed tells a second call that there is nothing to do.
    installed="${VIRTUAL_ENV:-$CONDA_PREFIX}/.sbgan-$1"
    if ! cat "$root/requirements.txt" "$requirements" | cmp -s - "$installed"; then
        echo "installing $1 into ${VIRTUAL_ENV:-$CONDA_PREFIX}"
        python -m pip install --quiet --disable-pip-version-check -r "$requirements"
        cat "$root/requirements.txt" "$requirements" >"$installed"
    fi
}
