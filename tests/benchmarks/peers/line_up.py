"""Who races against whom, and where its Python is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from race import HERE, Runner

ENVIRONMENTS = Path(os.environ.get("PEER_ENVS", Path.home() / ".cache" / "ase-equivariant-peers"))


def python_of(peer: str) -> str:
    """The peer's interpreter; ends the program with what to do if there is none."""
    if not (ENVIRONMENTS / peer / "ready").exists():
        sys.exit(f"no environment for {peer} in {ENVIRONMENTS}: run bash scripts/bench_envs.sh {peer}")
    return str(ENVIRONMENTS / peer / "bin" / "python")


def ours(model: str) -> Runner:
    """Our calculator with the model, or with one of its shape."""
    name = model if model.startswith("sevennet") else "sevennet-0" if model == "mace" else "nequip-32x4l2"
    return Runner(f"ase_equivariant {name}", "ours", name, sys.executable)


def runners(model: str) -> list[Runner]:
    """Ours first, then the peers that have the same model or one of its shape."""
    if model.startswith("sevennet"):
        peer = [("sevenn", False), ("sevenn, tuned malloc", True)]
        peers = [Runner(label, "sevenn", model, python_of("sevenn"), tuned) for label, tuned in peer]
    elif model == "training":
        peers = [Runner(f"nequip, {mode}", "nequip", mode, python_of("nequip")) for mode in ("eager", "compile")]
        peers.append(Runner("nequip, eager, tuned malloc", "nequip", "eager", python_of("nequip"), True))
    elif model == "mace":
        peers = [Runner("mace 128x0e+128x1o", "mace", model, python_of("mace"))]
    else:
        python, exported = python_of("nequip"), ENVIRONMENTS / "nequip-32x4l2.nequip.pt2"
        if not exported.exists():
            subprocess.run([python, str(HERE / "nequip_model.py"), str(exported)], check=True)
        peers = [
            Runner("nequip, eager", "nequip", "eager", python),
            Runner("nequip, AOTInductor", "nequip", str(exported), python),
        ]
        peers.append(Runner("nequip, eager, tuned malloc", "nequip", "eager", python, True))
    return [ours(model), *peers]
