#!/usr/bin/env bash
# Sets up and runs all tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements-dev.txt
cd "$root"
export OMP_NUM_THREADS=1 # one test a core: small networks gain nothing from threads
python -m pytest -m "not soak" -n auto "$@"
