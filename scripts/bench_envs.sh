#!/usr/bin/env bash
# Make one Python environment for each package that scripts/benchmark.py compares with, outside the repository.
#
#   bash scripts/bench_envs.sh [sevenn] [nequip] [mace]      # default all; FOLDER from $PEER_ENVS
#
# PyTorch comes first, in its CPU build, and is pinned while the rest is installed: no CUDA libraries are pulled.
set -euo pipefail

folder="${PEER_ENVS:-$HOME/.cache/ase-equivariant-peers}"
torch="torch==2.13.0"
declare -A packages=([sevenn]="sevenn==0.13.0" [nequip]="nequip==0.19.1" [mace]="mace-torch==0.3.16")
mkdir -p "$folder"

for name in "${@:-sevenn nequip mace}"; do
    for peer in $name; do
        if [ -z "${packages[$peer]:-}" ]; then
            echo "no peer called $peer: choose from ${!packages[*]}" >&2
            exit 1
        fi
        if [ -e "$folder/$peer/ready" ]; then
            echo "$peer: $folder/$peer is ready"
            continue
        fi
        echo "$peer: installing ${packages[$peer]} into $folder/$peer"
        python3 -m venv "$folder/$peer"
        "$folder/$peer/bin/pip" install --quiet "$torch" numpy
        "$folder/$peer/bin/pip" freeze | grep '^torch==' > "$folder/$peer/constraints.txt"
        "$folder/$peer/bin/pip" install --quiet -c "$folder/$peer/constraints.txt" "${packages[$peer]}"
        touch "$folder/$peer/ready"
    done
done
