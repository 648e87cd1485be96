"""Input of i-PI for path integrals and replica exchange: three files in a folder, ready to run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import write

from ase_equivariant.io.atomic import atomic_path

Transport = Literal["direct", "unix", "inet", "lammps"]
_VACUUM_A = 20.0


@dataclass(frozen=True)
class IPIRun:
    """A simulation in the NVT ensemble; more than one temperature means replica exchange between them.

    Attributes
    ----------
    name : str
        Of the files that i-PI writes: letters, digits, ``-`` and ``_``.
    temperatures_K : tuple of float
        One, or a ladder.
    beads : int
        Of each ring polymer; 1 is classical.
    timestep_fs, time_ps : float
        Step and length.
    every : int
        Steps between records; restart points are written ten times as seldom.
    exchange_every : int
        Steps between attempts to exchange replicas, on average.
    thermostat_fs : float
        Time constant; of the centroid where there are beads (PILE-L).
    transport : {"direct", "unix", "inet", "lammps"}
        i-PI evaluates the model itself, or sends to drivers through sockets: its own, which take all structures in
        one call, or LAMMPS ("unix" too), which divides one large structure among processes.
    port : int
        Of "inet".
    seed : int
        Of velocities and thermostats.

    Raises
    ------
    ValueError
        If something makes no sense.
    """

    name: str
    temperatures_K: tuple[float, ...] = (300.0,)
    beads: int = 16
    timestep_fs: float = 0.5
    time_ps: float = 1.0
    every: int = 10
    exchange_every: int = 20
    thermostat_fs: float = 100.0
    transport: Transport = "direct"
    port: int = 31415
    seed: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ValueError(f"name {self.name!r}: use letters, digits, - and _ only, i-PI makes file names of it")
        if self.transport not in get_args(Transport):
            raise ValueError(f"no transport {self.transport!r}: choose one of {', '.join(get_args(Transport))}")
        if not self.temperatures_K:
            raise ValueError("no temperature: give one, or several for replica exchange")
        numbers = {
            "temperature": min(self.temperatures_K),
            "beads": self.beads,
            "timestep": self.timestep_fs,
            "time": self.time_ps,
            "every": self.every,
            "exchange_every": self.exchange_every,
            "thermostat": self.thermostat_fs,
        }
        wrong = [f"{key} = {value}" for key, value in numbers.items() if not 0 < value < np.inf]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: use finite values above 0")

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return max(1, round(self.time_ps * 1000 / self.timestep_fs))

    @property
    def structures(self) -> int:
        """Evaluated together at each step."""
        return self.beads * len(self.temperatures_K)


def write_ipi(
    folder: Path, atoms: Atoms, run: IPIRun, model: str, *, device: str = "cpu", dtype: str | None = None
) -> list[str]:
    """Write ``input.xml``, ``start.extxyz`` and ``pes.py``, or ``start.data`` and ``in.lammps``, into a folder.

    Parameters
    ----------
    folder : Path
        Made if absent.
    atoms : Atoms
        Start of all beads and replicas. What is not periodic gets a box, which i-PI needs and the model does not see.
        Masses of isotopes and atoms held by ``FixAtoms`` are i-PI's too.
    model : str
        Name, or path of a model file.

    Returns
    -------
    list of str
        Commands that run it, in that folder; the first one is i-PI.

    Raises
    ------
    ValueError
        If there are no atoms, or they are periodic in some directions only with no cell vector in others, or have
        constraints other than ``FixAtoms``, or LAMMPS cannot take the cell as it is.
    """
    if len(atoms) == 0:
        raise ValueError("there are no atoms: i-PI needs at least one")
    fixed = _fixed_atoms(atoms)
    start = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if atoms.has("masses"):
        start.set_masses(atoms.get_masses())  # a column, which i-PI's reader takes
    if start.cell.rank < 3:
        if start.pbc.any():
            raise ValueError("i-PI needs three lattice vectors: give one, long enough, to each open direction too")
        start.cell = np.diag(np.ptp(start.positions, axis=0) + _VACUUM_A)
    if run.transport == "lammps" and not (start.pbc.all() and np.allclose(np.triu(start.cell.array, 1), 0, atol=1e-9)):
        raise ValueError(
            "LAMMPS under i-PI takes periodic cells with a along x and b in the xy plane: turn the structure "
            "(`atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)`) or choose another transport"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "start.extxyz") as temporary:
        write(temporary, start, format="extxyz")
    found = Path(model)
    place = str(found.resolve()) if found.is_file() else model
    texts = {"input.xml": _simulation(run, bool(start.pbc.all()), fixed)}
    if run.transport == "lammps":
        with atomic_path(folder / "start.data") as temporary:
            write(temporary, start, format="lammps-data", masses=True)
        texts["in.lammps"] = _lammps(run, start)
    else:
        texts["pes.py"] = _pes(place, device, dtype)
    for file, text in texts.items():
        with atomic_path(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    divided = f"mpirun -n 2 ase-equivariant lammps run in.lammps --model {place} --dtype {dtype or 'float64'}"
    driver = "i-pi-driver-py -m custom -P pes.py"
    return ["i-pi input.xml"] + {
        "direct": [],
        "unix": [f"{driver} -u -a {run.name}"],
        "inet": [f"{driver} -a localhost -p {run.port}"],
        "lammps": [divided],
    }[run.transport]


def _fixed_atoms(atoms: Atoms) -> list[int]:
    others = {type(constraint).__name__ for constraint in atoms.constraints if not isinstance(constraint, FixAtoms)}
    if others:
        raise ValueError(
            f"i-PI cannot keep {', '.join(sorted(others))}: use FixAtoms, or remove them (atoms.set_constraint())"
        )
    fixed = sorted({int(k) for constraint in atoms.constraints for k in constraint.index})
    if len(fixed) == len(atoms):
        raise ValueError(f"all {len(atoms)} atoms are fixed: free some of them (atoms.set_constraint())")
    return fixed


def _pes(model: str, device: str, dtype: str | None) -> str:
    return f'''"""The potential, as i-PI and its Python driver load it."""

from pathlib import Path

from ase_equivariant.engines.ipi import BeadPotential

__DRIVER_NAME__ = "custom"
__DRIVER_CLASS__ = "potential"


def potential(*_, **__):
    return BeadPotential(Path(__file__).with_name("start.extxyz"), {model!r}, device={device!r}, dtype={dtype!r})
'''


def _lammps(run: IPIRun, atoms: Atoms) -> str:
    elements = " ".join(sorted(set(atoms.symbols)))  # ASE numbers types in this order
    return f"""units metal
atom_style atomic
atom_modify map yes
read_data start.data
pair_style equivariant
pair_coeff * * {elements}
neighbor 1.0 bin
fix 1 all ipi {run.name} {run.port} unix
run 1000000000    # until i-PI says that it is done, which LAMMPS reports as an error
"""


def _simulation(run: IPIRun, periodic: bool, fixed: list[int]) -> str:
    exchange = len(run.temperatures_K) > 1
    systems = _replicas(run, fixed) if exchange else _system(run, f"{run.temperatures_K[0]:g}", fixed)
    remd = f"  <smotion mode='remd'> <remd> <stride> {run.exchange_every} </stride> </remd> </smotion>\n"
    pressure = ", pressure_cv{gigapascal}" if periodic else ""
    properties = (
        "step, time{picosecond}, conserved{electronvolt}, temperature{kelvin}, ensemble_temperature{kelvin}, "
        f"kinetic_cv{{electronvolt}}, potential{{electronvolt}}{pressure}"
    )
    return f"""<simulation verbosity='low'>
  <output prefix='{run.name}'>
    <properties filename='out' stride='{run.every}'> [ {properties} ] </properties>
    <trajectory filename='centroid' format='ase' stride='{run.every}'> x_centroid{{ase}} </trajectory>
    <trajectory filename='beads' format='ase' stride='{run.every}'> positions{{ase}} </trajectory>
    <checkpoint filename='restart' stride='{10 * run.every}' overwrite='True'/>
  </output>
  <total_steps> {run.steps} </total_steps>
  <prng> <seed> {run.seed} </seed> </prng>
{_forcefield(run)}
{systems}{remd if exchange else ""}</simulation>
"""


def _forcefield(run: IPIRun) -> str:
    batch = f"<batch_size> {run.structures} </batch_size>"
    if run.transport == "direct":
        # threaded: replicas ask one after the other, and the queue is evaluated when no more come
        return f"""  <ffdirect name='model' threaded='{len(run.temperatures_K) > 1}'>
    <pes> custom </pes> <pes_path> pes.py </pes_path> {batch}
  </ffdirect>"""
    if run.transport == "lammps":
        batch = ""
    mode = "inet" if run.transport == "inet" else "unix"
    place = "localhost" if run.transport == "inet" else run.name
    port = f" <port> {run.port} </port>" if run.transport == "inet" else ""
    return f"""  <ffsocket name='model' mode='{mode}' threaded='True' pbc='False'>
    <address> {place} </address>{port} {batch}
  </ffsocket>"""


def _replicas(run: IPIRun, fixed: list[int]) -> str:
    instances = "".join(f"    <instance> [ {k}, {t:g} ] </instance>\n" for k, t in enumerate(run.temperatures_K))
    system = _system(run, "KELVIN", fixed, " prefix='REPLICA'")
    return f"""  <system_template>
    <labels> [ REPLICA, KELVIN ] </labels>
{instances}    <template>
{system}    </template>
  </system_template>
"""


def _system(run: IPIRun, temperature: str, fixed: list[int], attributes: str = "") -> str:
    tau = f"<tau units='femtosecond'> {run.thermostat_fs:g} </tau>"
    beads = f"<thermostat mode='pile_l'> {tau} <pile_lambda> 0.5 </pile_lambda> </thermostat>"
    single = f"<thermostat mode='langevin'> {tau} </thermostat>"
    # With atoms in their places the centre of mass is free.
    held = f"\n      <fixcom> False </fixcom> <fixatoms> [ {', '.join(map(str, fixed))} ] </fixatoms>" if fixed else ""
    return f"""  <system{attributes}>
    <initialize nbeads='{run.beads}'>
      <file mode='ase'> start.extxyz </file>
      <velocities mode='thermal' units='kelvin'> {temperature} </velocities>
    </initialize>
    <forces> <force forcefield='model'/> </forces>
    <ensemble> <temperature units='kelvin'> {temperature} </temperature> </ensemble>
    <motion mode='dynamics'>{held}
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> {run.timestep_fs:g} </timestep>
        {beads if run.beads > 1 else single}
      </dynamics>
    </motion>
  </system>
"""
