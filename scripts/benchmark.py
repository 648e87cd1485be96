"""Time MD steps of our calculator against sevenn, nequip and mace, each in its own environment (scripts/bench_envs.sh).

python scripts/benchmark.py sevennet-0 --systems si512 water64 --threads 2 --output result.json
python scripts/benchmark.py nequip --systems ethanol si512
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "benchmarks" / "peers"))

from race import HERE, Runner, race, table

ENVIRONMENTS = Path(os.environ.get("PEER_ENVS", Path.home() / ".cache" / "ase-equivariant-peers"))


def python_of(peer: str) -> str:
    if not (ENVIRONMENTS / peer / "ready").exists():
        sys.exit(f"no environment for {peer} in {ENVIRONMENTS}: run bash scripts/bench_envs.sh {peer}")
    return str(ENVIRONMENTS / peer / "bin" / "python")


def runners(model: str) -> list[Runner]:
    if model.startswith("sevennet"):
        peer = [("sevenn", False), ("sevenn, tuned malloc", True)]
        peers = [Runner(label, "sevenn", model, python_of("sevenn"), tuned) for label, tuned in peer]
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
    ours = model if model.startswith("sevennet") else "sevennet-0" if model == "mace" else "nequip-32x4l2"
    return [Runner(f"ase_equivariant {ours}", "ours", ours, sys.executable), *peers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["sevennet-0", "sevennet-l3i5", "nequip", "mace"])
    parser.add_argument("--systems", nargs="+", default=["ethanol", "aspirin", "water64", "si64", "si512", "cu500"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    racing = runners(options.model)
    race(racing, options.systems, options.threads, options.rounds, options.seconds)
    print(table(racing, options.systems))
    if options.output:
        raw = {runner.label: {"seconds": runner.seconds, "peak_GB": runner.peak_GB} for runner in racing}
        options.output.write_text(json.dumps({"machine": platform.processor(), "threads": options.threads, "raw": raw}))


if __name__ == "__main__":
    main()
