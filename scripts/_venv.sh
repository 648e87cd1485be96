# Sourced by the other scripts: makes .venv at the top of the repository, once, and installs the package into it.
# TORCH_SPEC chooses the PyTorch that is installed where there is none yet.
TORCH_SPEC="${TORCH_SPEC:-torch==2.13.0}"
PYTHON="${PYTHON:-python3}"

say() { printf '==> %s\n' "$*"; }

make_venv() { # make_venv EXTRAS, for example make_venv '[dev]'
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: Python 3.11 or newer is needed ('$PYTHON' is not); set PYTHON=/path/to/python3" >&2
        exit 1
    fi
    if [ ! -x .venv/bin/python ]; then
        say "making .venv"
        rm -rf .venv
        if ! "$PYTHON" -m venv .venv >/dev/null 2>&1; then
            rm -rf .venv
            if ! "$PYTHON" -m virtualenv .venv >/dev/null 2>&1; then
                echo "error: '$PYTHON -m venv' does not work; on Debian: apt-get install python3-venv" >&2
                exit 1
            fi
        fi
    fi
    if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
        say "installing $TORCH_SPEC"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$TORCH_SPEC"
    fi
    say "installing ase-equivariant$1"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$1"
}
