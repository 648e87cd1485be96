"""Physical checks of models by name: pictures and numbers beside reference frames and the literature.

python scripts/physical_checks.py rmd17-ethanol si --data ../shared/data    # writes models/NAME-physics.{json,png}"""

import argparse
import json
from pathlib import Path

from ase import Atoms

from ase_equivariant import EquivariantCalculator
from ase_equivariant.cli.common import read_structure
from ase_equivariant.cli.errors import run_program
from ase_equivariant.io.results import write_json
from ase_equivariant.plotting.checks import draw_check
from ase_equivariant.plotting.figure import save_figure
from ase_equivariant.recipes.checks import check_crystal, check_liquid, check_molecule, sample
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.relax import relax
from ase_equivariant.training.readers import read_frames

MODELS = Path(__file__).parent.parent / "models"


def check(name: str, system: dict, options: argparse.Namespace) -> object:
    reference = [f.atoms for file in system.get("reference", []) for f in read_frames(options.data / file)]
    atoms: Atoms = read_structure(system["structure"])[1] if "structure" in system else reference[0].copy()
    atoms.calc = EquivariantCalculator(options.models / f"{name}.safetensors", preset="phonon")
    if system["kind"] == "crystal":
        return check_crystal(atoms, system.get("supercell"))
    settings = MDSettings.parse(system["md"])
    moving, fast = atoms.copy(), EquivariantCalculator(options.models / f"{name}.safetensors", preset="md")
    moving.calc = fast
    frames = sample(moving, options.time_ps, settings)
    if system["kind"] == "liquid":
        return check_liquid(reference, frames, system.get("diffusing"))
    relax(atoms, fmax=1e-3)
    runs = {"settings": settings, "stability_ps": options.stability_ps, "processes": options.processes}
    return check_molecule(atoms, reference, frames, fast, dihedral=system.get("dihedral"), **runs)


def main() -> None:
    systems = json.loads((MODELS / "physics.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(systems), metavar="NAME", help=", ".join(systems))
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of NAME.safetensors and of the results")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the reference frames")
    parser.add_argument("--time-ps", type=float, default=50.0, help="of dynamics, after 5 ps that are discarded")
    parser.add_argument("--stability-ps", type=float, default=0.0, help="of each of ten more runs")
    parser.add_argument("--processes", type=int, default=1, help="of these at a time, one thread each")
    options = parser.parse_args()
    for name in options.names:
        found, known = check(name, systems[name], options), systems[name].get("literature", {})
        write_json(options.models / f"{name}-physics.json", {"system": systems[name], "found": found})
        save_figure(draw_check(found, known.get("phonons_THz")), options.models / f"{name}-physics.png")
        print(f"wrote {options.models / name}-physics.json and .png")


if __name__ == "__main__":
    run_program(main)
