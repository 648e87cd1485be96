"""Force error against the number of training frames, by degree of the features and without equivariance (resumable).

python scripts/data_efficiency.py models/configs/data-efficiency.toml FOLDER    # the notebook is a small form of it
"""

import json
import sys
import tomllib
from itertools import product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from ase_equivariant.plotting.figure import new_figure, save_figure
from ase_equivariant.plotting.power_law import fit_power_law, plot_power_laws

sys.path.append(str((ROOT := Path("../" if Path("../scripts").exists() else "")) / "scripts"))  # for a notebook
from study_files import plan_and_folder, read_results, write_results
from train_one_size import configuration, run_one, small_form


# %% Test errors and their power laws, of networks that are not equivariant on turned frames too
def draw(results, path):
    curves = {name: {} for name, *_ in map(json.loads, results)}
    for (name, network, size, _), found in zip(map(json.loads, results), results.values(), strict=True):
        for which in ("",) if "l_max" in network else ("", "turned "):
            label = f"{network}{which and ', tested on turned frames'}"
            curves[name].setdefault(label, []).append((size, found[f"{which}forces MAE (meV/Å)"]))
    figure = new_figure(6.0 * len(curves), 6.5)
    for ax, name in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        plot_power_laws(curves[name], ax).set(title=name, xlabel="training frames", ylabel="test forces MAE (meV/Å)")
    save_figure(figure, path)
    return curves


# %% The grid, equivariant networks first
def study(plan, folder):
    results = read_results(file := folder / "data-efficiency.json", plan)
    names, seeds, sizes = (plan["grid"][key] for key in ("molecules", "seeds", "sizes"))
    for name, others, seed, size, network in product(names, (0, 1), seeds, sizes, plan["networks"]):
        key = json.dumps([name, network["name"], size, seed])
        if key not in results and ("turned" in network) == others:
            run = folder / f"{name} {network['name']} {size} {seed}".replace(" ", "-")
            results[key] = run_one(configuration(plan, network, name, size, seed, run), network.get("turned"))
            write_results(file, plan, results)
            print(key, results[key], flush=True)
            draw(results, folder / "data-efficiency.png")
    for name, curves in draw(results, folder / "data-efficiency.png").items():
        for network, points in curves.items():
            errors = [f"{mean(error for n, error in points if n == size):.1f} |" for size in sizes]
            print("|", name, "|", network, "|", *errors, f"{fit_power_law(*zip(*points, strict=True))[1]:.2f} |")


# %% What is committed; in a notebook a few steps on frames labelled by a shipped model
if "get_ipython" not in globals():
    study(*plan_and_folder(sys.argv))
else:
    committed = tomllib.loads((ROOT / "models/configs/data-efficiency.toml").read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        study(small_form(committed, Path(folder)), Path(folder))
