#!/usr/bin/env bash
# Environment, install, ruff, mypy, pytest: what a fresh clone needs to be tested, and what CI runs.
#
#   scripts/test.sh                 everything, the slow end-to-end runs of nnU-Net included
#   scripts/test.sh -m "not slow"   further arguments go to pytest
#
# VENV names the virtual environment (default .venv; made if absent), PYTHON the interpreter to make it with.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[dev]"

# Idle OpenMP threads that spin slow nnU-Net's processes down on few cores.
export GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE

"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest "$@"
