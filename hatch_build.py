"""Compile the C++ kernels into the wheel, or into the source tree of an editable install.

``python hatch_build.py`` does the same by hand. Without a C++ compiler nothing is built and
the package runs on its reference kernels.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "ase_equivariant" / "kernels" / "csrc"
LIBRARY = SOURCES.parent / "_conv.so"

# -fno-math-errno only: anything of -ffast-math that assumes finite numbers would hide NaN.
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-Wall"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mprefer-vector-width=512"]
LEVELS = {"baseline": (16, []), "avx2": (32, AVX2), "avx512": (64, AVX512)}  # name: (vector bytes, flags)
# Hardly any x86 processor is left to the baseline: most of its kernels stay loops, which halves the build.
X86_BASELINE = ["-DUNROLLED_L=1"]


def find_compiler() -> list[str] | None:
    """Command of a C++ compiler: ``$CXX``, or the first of the usual ones that is installed."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    return None


def compile_library(compiler: list[str], target: Path) -> None:
    """Compile every instruction set and precision, side by side, and link them into ``target``.

    Raises
    ------
    RuntimeError
        With the compiler's output, if it fails.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    levels = LEVELS if x86 else {"baseline": LEVELS["baseline"]}
    with tempfile.TemporaryDirectory() as folder:
        common = [f"-DINTERFACE={_interface()}u", *(["-DWITH_X86_LEVELS"] if x86 else [])]
        sources = ("library", "network_library", "helpers")
        jobs = {Path(folder, f"{name}.o"): [f"{name}.cpp", *common] for name in sources}
        for level, (vector_bytes, flags) in levels.items():
            if x86 and level == "baseline":
                flags = X86_BASELINE
            for real in ("float", "double"):
                for source, prefix in (("rows.cpp", "conv"), ("network.cpp", "network")):
                    name = f"{prefix}_{level}_{real}"
                    defines = [f"-DREAL={real}", f"-DVECTOR_BYTES={vector_bytes}", f"-DNAME={name}"]
                    jobs[Path(folder, f"{name}.o")] = [source, *flags, *defines]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            commands = [[*compiler, *FLAGS, "-c", *rest, "-o", str(out)] for out, rest in jobs.items()]
            list(pool.map(_run, commands))
        linked = target.with_suffix(f".{os.getpid()}.tmp")
        _run([*compiler, "-shared", "-pthread", *map(str, jobs), "-o", str(linked)])
        os.replace(linked, target)  # a process that has the old library open keeps it


def _interface() -> int:
    """Checksum of the headers that Python mirrors, as ``ase_equivariant.kernels.cpu`` takes it."""
    return zlib.crc32((SOURCES / "conv.h").read_bytes() + (SOURCES / "network.h").read_bytes())


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")


def build() -> str | None:
    """Build the library if it is older than its sources; returns why it is absent, or None."""
    newest = max(path.stat().st_mtime for path in [*SOURCES.iterdir(), Path(__file__)])
    if LIBRARY.exists() and LIBRARY.stat().st_mtime > newest:
        return None
    LIBRARY.unlink(missing_ok=True)
    compiler = find_compiler()
    if compiler is None:
        return "no C++ compiler found (set $CXX, or install g++ or clang++)"
    try:
        compile_library(compiler, LIBRARY)
    except RuntimeError as error:
        return f"the C++ compiler failed:\n{error}"
    return None


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, outside a build
    BuildHookInterface = object


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Hatchling's hook: called for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and tag the wheel for this platform if it holds the library."""
        problem = build()
        if problem is not None:
            self.app.display_warning(f"kernels not built, the slower reference kernels will be used: {problem}")
            return
        build_data["artifacts"].append(LIBRARY.relative_to(ROOT).as_posix())
        build_data["pure_python"] = False
        # Loaded with ctypes: bound to the platform, not to a version of Python.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    if (message := build()) is not None:
        sys.exit(message)
    print(f"built {LIBRARY.relative_to(ROOT)}")
