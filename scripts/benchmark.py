"""Time MD steps of our calculator against sevenn, nequip and mace, each in its own environment (scripts/bench_envs.sh).

python scripts/benchmark.py sevennet-0 --systems si512 water64 --threads 2 --output result.json
python scripts/benchmark.py nequip --systems ethanol si512
python scripts/benchmark.py training --systems "ethanol*32" "si64*4"   # training steps on batches
python scripts/benchmark.py sevennet-0 --alone --systems si512 si32768 si262144   # no peers: time and memory by size
"""

import argparse
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "benchmarks" / "peers"))

from line_up import ours, runners
from race import race, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["sevennet-0", "sevennet-l3i5", "nequip", "mace", "training"])
    parser.add_argument("--systems", nargs="+", default=["ethanol", "aspirin", "water64", "si64", "si512", "cu500"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--alone", action="store_true", help="ours only")
    options = parser.parse_args()
    racing = [ours(options.model)] if options.alone else runners(options.model)
    race(racing, options.systems, options.threads, options.rounds, options.seconds)
    print(table(racing, options.systems))
    if options.output:
        raw = {runner.label: {"seconds": runner.seconds, "peak_GB": runner.peak_GB} for runner in racing}
        options.output.write_text(json.dumps({"machine": platform.processor(), "threads": options.threads, "raw": raw}))


if __name__ == "__main__":
    main()
