"""Write models/README.md from the files in models/: what is measured here beside what is published.

python scripts/results_page.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import evaluate_readouts as readouts
import evaluate_universal as universal
from results_tables import of_files, table


def main() -> None:
    folder = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parent.parent / "models")
    results, published, speeds = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("universal", "published", "speeds")
    )
    files = sorted(folder.glob("*.safetensors"))
    groups = {}
    for kind, prefix in (("md17", "md17-"), ("rmd17", "rmd17-"), ("flexible", ""), ("elements", "")):
        known = {f"{prefix}{name}" for name in published[kind]["errors"]}
        groups[kind] = [path for path in files if path.stem in known]
    groups["others"] = sorted(set(files).difference(*groups.values()))
    page = {
        kind: table(models, published[kind], speeds["models"], mean="md17" in kind) for kind, models in groups.items()
    }
    page["hotter"] = of_files([folder / f"3bpa-{kelvin}K.json" for kelvin in (600, 1200)], published["hotter"])
    page["hotter_source"] = published["hotter"]["source"]
    page["universal"] = universal.rows(results, published["universal"])
    page |= {f"{kind}_source": published[kind]["source"] for kind in groups}
    page["sources"] = "; ".join(dict.fromkeys(known["source"] for known in published["universal"].values()))
    page["speeds_machine"] = speeds["machine"]
    page["cards"] = ", ".join(f"[{path.stem}]({path.stem}.md)" for path in files)
    page["readouts"] = readouts.table(sorted(folder.glob("*-readouts.json")))
    (folder / "README.md").write_text((folder / "README.in.md").read_text("utf-8").format(**page), "utf-8")


if __name__ == "__main__":
    main()
