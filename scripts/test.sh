#!/usr/bin/env bash
# Runs what CI runs: linter, formatter, type checker and the tests, in .venv (made if it is not there).
# Arguments go to pytest: scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_venv.sh

make_venv '[dev]'
say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
say "mypy"
.venv/bin/mypy
say "pytest"
# Structures are small: more threads than one only wait for each other where other work takes a core (ten times as long).
# Two processes take half the time; `-n 0` runs all tests in one, in order.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" exec .venv/bin/pytest -n 2 --dist worksteal "$@"
