"""Write models/finetune.md from models/finetune-*.json: what fine-tuning, frozen parts and replay are worth.

python scripts/finetune_page.py [FOLDER]
"""

import json
import sys
from pathlib import Path

FORCES = "forces MAE (meV/Å)"


def curve(results: dict) -> str:
    rows = []
    for size in sorted({int(key.split("-")[1]) for key in results}):
        found = [results.get(f"{kind}-{size}") for kind in ("tuned", "scratch", "patient")]
        cells = [f"{errors[FORCES]:.1f}" if errors else "–" for errors in found]  # a curve may be under way
        rows.append(f"| {size} | {' | '.join(cells)} |\n")
    return "".join(rows)


def options(results: dict) -> str:
    return "".join(
        f"| {name} | {found['new']:.1f} | {found['known']:.1f} | {found['CPU minutes']:.1f} |\n"
        for name, found in results.items()
    )


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "models")
    read = {
        name: json.loads((folder / f"finetune-{name}.json").read_text()) for name in ("ethanol", "srtio3", "options")
    }
    parts = {name: options(found) if name == "options" else curve(found) for name, found in read.items()}
    page = (folder / "finetune.in.md").read_text(encoding="utf-8").format(**parts)
    (folder / "finetune.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
