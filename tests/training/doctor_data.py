"""Small data sets without a fault, made of a spring model and of effective-medium theory, and faults to plant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from ase_equivariant.training.doctor.examine import examine
from ase_equivariant.training.doctor.totals import statistical_energy
from ase_equivariant.training.frames import Frame


def springs(atoms, equilibrium):
    """Energy and forces of springs between atoms, X-H bonds as stiff as in nature, and the free atoms' energies."""
    i, j = np.triu_indices(len(atoms), 1)
    vectors = atoms.positions[j] - atoms.positions[i]
    lengths = np.linalg.norm(vectors, axis=1)
    rest = np.linalg.norm(equilibrium[j] - equilibrium[i], axis=1)
    stiffness = np.where(rest < 1.25, 32.0, np.where(rest < 1.7, 20.0, 1.0))
    along = (stiffness * (lengths - rest) / lengths)[:, None] * vectors
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, along)
    np.add.at(forces, j, -along)
    energy = 0.5 * (stiffness * (lengths - rest) ** 2).sum() + statistical_energy(atoms.numbers).sum()
    return float(energy), forces


def molecules(count=60, seed=0, name="CH3CH2OH", scatter=0.05):
    """A molecule in thermal disorder."""
    rng = np.random.default_rng(seed)
    equilibrium = molecule(name)
    frames = []
    for _ in range(count):
        atoms = equilibrium.copy()
        atoms.positions += scatter * rng.normal(size=(len(atoms), 3))
        frames.append(Frame(atoms, *springs(atoms, equilibrium.positions)))
    return frames


def crystals(count=60, seed=0):
    """Strained and rattled cells of Cu₃Au with EMT's energy, forces and stress."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", "fcc", a=3.75, cubic=True)
        atoms.symbols[0] = "Au"
        strain = 0.012 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += 0.03 * rng.normal(size=(4, 3))
        atoms.calc = EMT()
        labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
        frames.append(Frame(_bare(atoms), *labels))
    return frames


def _bare(atoms):
    atoms = atoms.copy()
    atoms.calc = None
    return atoms


def scaled(frames, energy=1.0, forces=1.0, stress=1.0):
    """Labels multiplied."""
    return [
        replace(
            frame,
            energy=frame.energy * energy,
            forces=frame.forces * forces,
            stress=None if frame.stress is None else frame.stress * stress,
        )
        for frame in frames
    ]


def moved(frame, positions=None, numbers=None):
    """The frame with other positions or elements, labels as they were."""
    atoms = frame.atoms.copy()
    if positions is not None:
        atoms.positions = positions
    if numbers is not None:
        atoms.numbers = numbers
    return replace(frame, atoms=atoms)


def findings(frames, test=None, **options):
    """What is found beside notes, as a list of (check, severity, message with cure, frames)."""
    report = examine(frames, test, **options)
    return [(f.check, f.severity, f"{f.message} → {f.cure}", f.frames) for f in report.findings if f.severity != "note"]


def the_finding(frames, test=None, **options):
    """The one and only finding beside notes."""
    found = findings(frames, test, **options)
    assert len(found) == 1, found
    return found[0]
