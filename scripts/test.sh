#!/usr/bin/env bash
# Create an environment, install the package, and run ruff, mypy and pytest. CI runs this script too.
#
#   scripts/test.sh                 everything, including the slow end-to-end runs of nnU-Net
#   scripts/test.sh -m "not slow"   further arguments go to pytest
#
# One worker per core runs the tests, each with whole files, whose fixtures are shared.
# VENV is the virtual environment (default: .venv; created if absent). PYTHON is the interpreter that creates it.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[dev]"

# Spinning idle OpenMP threads slow down nnU-Net's processes on few cores.
export GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE

"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest -n auto --dist loadfile "$@"
