#!/usr/bin/env bash
# From a fresh clone to molecular dynamics: makes .venv, installs, relaxes ethanol and runs 2 ps at 300 K.
# Everything it makes is in quickstart/; running it again replaces that.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_venv.sh

make_venv ''
say "relaxing ethanol"
.venv/bin/ase-equivariant relax ethanol molecule:CH3CH2OH --output-dir quickstart --overwrite
say "2 ps of Langevin dynamics at 300 K"
.venv/bin/ase-equivariant md ethanol quickstart/CH3CH2OH.relaxed.extxyz --ensemble langevin --temperature 300 \
    --timestep 0.5 --time-ps 2 --seed 1 --output-dir quickstart --overwrite
say "look at quickstart/: $(ls quickstart | tr '\n' ' ')"
