"""Which structures a run with read-outs may go on with."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from readout_data import NETWORK, make_potential, water

from ase_equivariant.training.build import Start, make_fingerprint
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import to_batch
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.splits import Splits


def test_fingerprint_of_runs_without_readouts_has_no_trace_of_them():
    plain = TrainConfig.parse({"data": {"train": "x.xyz"}, "model": {"architecture": NETWORK}})
    assert "readout" not in plain.fingerprint().replace("readout_hidden", "")
    assert "dipole" not in plain.fingerprint()


DIPOLE = [{"kind": "dipole", "charges": True}]


def run_of(readouts):
    model = {"architecture": {**NETWORK, "species": ["H", "O"]}, "readouts": readouts}
    return TrainConfig.parse({"data": {"train": "x.xyz"}, "model": model})


def fingerprint(frame, readouts, of_replay=False):
    """Of a run on a structure, or one that mixes it in."""
    samples = [] if of_replay else [to_batch(frame, 4.0, torch.float64)]
    start = Start(make_potential(readouts), run_of(readouts), samples, [], {}, [frame] if of_replay else [])
    return make_fingerprint(start, Splits([], [], [], [], {}), {"training": samples})


def changed(frame, change):
    atoms = frame.atoms.copy()
    if change == "charge":
        atoms.info["charge"] = -1
    elif change == "place":  # edges stay what they are to the bit
        atoms.positions += 8.0
    readouts = {"dipole": Label(np.ones(3), per_atom=False)} if change == "dipole" else frame.readouts
    return replace(frame, atoms=atoms, energy=0.0 if change == "energy" else None, readouts=readouts)


@pytest.mark.parametrize(
    ("change", "readouts", "of_replay", "differs"),
    [
        (None, DIPOLE, False, False),
        ("charge", DIPOLE, False, True),
        ("place", DIPOLE, False, True),
        ("energy", DIPOLE, False, True),
        ("charge", [], False, True),
        ("place", [], False, False),
        ("charge", DIPOLE, True, True),
        ("dipole", DIPOLE, True, True),
        ("dipole", [], True, False),
    ],
)
def test_a_run_goes_on_with_the_same_structures_only(change, readouts, of_replay, differs):
    """A label of zero is not the same as none; what models of energies do not see was in no fingerprint."""
    atoms = water(0)
    atoms.positions = np.round(8 * atoms.positions) / 8
    frame = Frame(atoms, readouts={"dipole": Label(np.zeros(3), per_atom=False)})
    found = {fingerprint(each, readouts, of_replay) for each in (frame, changed(frame, change))}
    assert len(found) == 1 + differs


def test_fingerprints_of_energies_and_forces_stay_what_they_are():
    """Runs that were begun before other read-outs and charges counted go on."""
    frame = Frame(water(0), -1.0, np.ones((3, 3)))
    sample = to_batch(frame, 4.0, torch.float64)
    content = [sample.graph.atomic_numbers, sample.graph.edge_vectors, sample.energy, sample.forces, sample.stress]
    expected = run_of([]).fingerprint().encode() + b"training" + b"".join(t.numpy().tobytes() for t in content)
    assert fingerprint(frame, []) == hashlib.sha256(expected + b"replay").hexdigest()
