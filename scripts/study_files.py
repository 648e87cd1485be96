"""What ``data_efficiency.py`` reads and keeps: a plan, and results beside what decided them."""

import json
import sys
import tomllib
from pathlib import Path

from ase_equivariant.io.results import plain, write_json

EXAMPLE = "models/configs/data-efficiency.toml"


def plan_and_folder(arguments: list[str]) -> tuple[dict, Path]:  # of a command line; what is wrong with it, in one line
    if len(arguments) != 3:
        sys.exit(f"give a plan and a folder for its runs: python {arguments[0]} {EXAMPLE} FOLDER")
    name, folder = arguments[1], Path(arguments[2])
    try:
        plan = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        deciding(plan), plan["grid"]["sizes"], plan["grid"]["seeds"]
        data = {
            plan["run"]["data"][p].replace("{molecule}", m)
            for p in ("train", "test")
            for m in plan["grid"]["molecules"]
        }
    except (OSError, ValueError) as error:
        sys.exit(f"{name}: {getattr(error, 'strerror', None) or error}")
    except (KeyError, TypeError, AttributeError) as error:
        sys.exit(f"{name} is no plan like {EXAMPLE} ({type(error).__name__}: {error})")
    if absent := sorted(path for path in data if not Path(path).is_file()):
        sys.exit(f"{absent[0]}: no such file (run.data of {name} names it; relative paths start from {Path.cwd()})")
    if folder.exists() and not folder.is_dir():
        sys.exit(f"{folder} is a file: name a folder")
    return plan, folder


def deciding(plan: dict) -> dict:  # what decides runs; molecules, sizes, seeds and networks may be added
    networks = {network["name"]: {k: v for k, v in network.items() if k != "name"} for network in plan["networks"]}
    return plain({**{key: plan["grid"][key] for key in ("steps", "warmup_steps")}, "run": plan["run"]} | networks)


def read_results(file: Path, plan: dict) -> dict:
    if not file.exists():
        return {}
    kept = json.loads(file.read_text(encoding="utf-8"))
    if "plan" not in kept:
        sys.exit(f"{file} does not say of what plan its results are: take another folder")
    then, now = kept["plan"], deciding(plan)
    if others := [key for key in now if key in then and now[key] != then[key]]:
        key = others[0]
        if key == "run":  # the section of it that differs
            key = next(k for k in {**then["run"], **now["run"]} if then["run"].get(k) != now["run"].get(k))
            then, now = then["run"], now["run"]
        sys.exit(f"{file}: {key} was {then.get(key)}, now it is {now.get(key)}: take another folder for another plan")
    return kept["results"]


def write_results(file: Path, plan: dict, results: dict) -> None:
    before = json.loads(file.read_text(encoding="utf-8"))["plan"] if file.exists() else {}
    write_json(file, {"plan": before | deciding(plan), "results": results})
