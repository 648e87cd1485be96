"""Names of labels, and those of read-outs beside the energy: out of files, in batches, the scales that follow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.units import Bohr, Debye, Hartree
from torch import Tensor

from ase_equivariant.graph.convert import dipole_of_isotopes, total_charge
from ase_equivariant.potential import Potential
from ase_equivariant.potential.repulsion import COULOMB
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.labels import LabelConfig

DIPOLE_UNITS = {"e*Angstrom": 1.0, "Debye": Debye, "au": Bohr}
POLARIZABILITY_UNITS = {"e2*Angstrom2/eV": 1.0, "Angstrom3": 1 / COULOMB, "au": Bohr**2 / Hartree}
_SHAPES = {"dipole": (3,), "polarizability": (3, 3), "charges": (), "born_effective_charges": (3, 3)}
_CHARGE_TOLERANCE = 0.1  # e; populations that are integrated on grids are 0.01 off, a wrong charge is 1 off
_NO_SPREAD = 1e-6  # of the labels' own root mean square, below which what references leave is rounding
_NO_LABEL = 1e-9  # of the package's units, root mean square below which all labels are zeros that were computed
PER_ATOM = ("charges", "born_effective_charges")


def keys_of(config: LabelConfig) -> dict[str, str]:
    """Read-outs that a configuration names, and under what name a file has them."""
    named = {name: getattr(config, f"{name}_key") for name in ("dipole", "polarizability", "charges")}
    return {name: key for name, key in named.items() if key is not None} | dict(config.readout_keys)


def label_option(name: str) -> str:
    """The option that names the labels of a read-out."""
    return f"{name}_key" if f"{name}_key" in LabelConfig.model_fields else f"readout_keys.{name}"


def label_keys(config: LabelConfig) -> dict[str, str]:
    """Options of a configuration that name labels, and the names."""
    options = ("energy_key", "forces_key", "stress_key", "virial_key")
    keys = {option: getattr(config, option) for option in options if getattr(config, option) is not None}
    return keys | {label_option(name): key for name, key in keys_of(config).items()}


def find_value(atoms: Atoms, keys: Iterable[str]) -> Any:
    """The first of these names that a calculator's results, ``info`` or ``arrays`` have, None if there is none."""
    results = atoms.calc.results if atoms.calc is not None else {}
    for key in keys:
        for place in (results, atoms.info, atoms.arrays):
            if place.get(key) is not None:
                return place[key]
    return None


def find_labels(atoms: Atoms, config: LabelConfig) -> dict[str, Label]:
    """Labels of a structure as they are in the file, but for their shapes.

    Those that the configuration names, anywhere in the structure; dipole and charges that a calculator has given, too.

    Raises
    ------
    ValueError
        If one has the wrong shape.
    """
    results = atoms.calc.results if atoms.calc is not None else {}
    found: dict[str, tuple[object, bool]] = {
        name: (results[name], name in PER_ATOM) for name in unnamed_labels(atoms, config)
    }
    for name, key in keys_of(config).items():
        for place, of_atoms in ((results, name in PER_ATOM), (atoms.info, False), (atoms.arrays, True)):
            if place.get(key) is not None:
                found[name] = (place[key], of_atoms)
                break
    return {name: as_label(name, value, of_atoms, len(atoms)) for name, (value, of_atoms) in found.items()}


def unnamed_labels(atoms: Atoms, config: LabelConfig) -> list[str]:
    """Read-outs that are taken from a calculator's results because the configuration does not name any."""
    results = atoms.calc.results if atoms.calc is not None else {}
    given = [name for name in ("dipole", "charges") if name not in keys_of(config) and results.get(name) is not None]
    return [name for name in given if not (name == "dipole" and atoms.pbc.any())]


def as_label(name: str, value: object, of_atoms: bool, num_atoms: int) -> Label:
    """A read-out's value in its shape, of the structure or of each of its atoms.

    Raises
    ------
    ValueError
        If it has another one or is no number.
    """
    if name in _SHAPES:
        of_atoms = name in PER_ATOM
        return Label(as_numbers(name, value, (num_atoms,) * of_atoms + _SHAPES[name]), of_atoms)
    values = _floats(name, value)
    if not of_atoms:
        return Label(values.reshape(-1), of_atoms)
    if values.shape[:1] != (num_atoms,):
        raise ValueError(f"{name} has the wrong shape {values.shape}: ({num_atoms}, …) is wanted, a row for each atom")
    return Label(values.reshape(num_atoms, math.prod(values.shape[1:])), of_atoms)


def as_numbers(name: str, value: object, *shapes: tuple[int, ...]) -> np.ndarray:
    """Values in the first of the shapes that they fit: axes of length 1 do not count, last axes may be flattened.

    Raises
    ------
    ValueError
        If they fit none, such as the transpose of one, or are no numbers; names the label.
    """
    values = _floats(name, value)
    for shape in shapes:
        if _fits(values.shape, shape):
            return values.reshape(shape)
    wanted = " or ".join("one number" if shape == () else str(shape) for shape in shapes)
    raise ValueError(f"{name} has the wrong shape {values.shape}: {wanted} is wanted")


def _floats(name: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is no number: {str(value)[:40]!r}") from None


def _fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array holds the numbers of the wanted shape in its order; a size that agrees may be a transpose."""
    flattened = ((*wanted[:k], math.prod(wanted[k:])) for k in range(len(wanted) + 1))
    return _without_ones(found) in map(_without_ones, flattened)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def convert_labels(frame: Frame, config: LabelConfig) -> Frame:
    """Read-outs in the package's units, and the dipole of an ion about the centre of its elements' mean masses.

    A structure's positions are in Å already; it has its own masses if dipoles are about their centre.

    Raises
    ------
    ValueError
        If a periodic structure has a dipole, a polarizability is not symmetric, or charges that the configuration names
        do not sum to the structure's.
    """
    if not frame.readouts:
        return frame
    labels = dict(frame.readouts)
    if "dipole" in labels:
        if frame.atoms.pbc.any():
            raise ValueError(
                "a periodic structure has no dipole: it depends on the choice of the cell; leave data.dipole_key out, "
                "or train on its derivatives (data.readout_keys with born_effective_charges)"
            )
        dipole = labels["dipole"].values * DIPOLE_UNITS[config.dipole_units]
        if config.dipole_origin == "mass":
            moved = dipole_of_isotopes(frame.atoms)
        else:
            moved = total_charge(frame.atoms) * centre_of_mass(frame.atoms)
        labels["dipole"] = Label(dipole - moved, False)
    if "polarizability" in labels:
        alpha = labels["polarizability"].values * POLARIZABILITY_UNITS[config.polarizability_units]
        if np.abs(alpha - alpha.T).max() > 1e-2 * np.abs(alpha).max():
            raise ValueError("a polarizability is not symmetric: give all nine components, row by row")
        labels["polarizability"] = Label((alpha + alpha.T) / 2, False)
    if "charges" in labels and config.charges_key is not None:
        _check_sum(labels["charges"].values, total_charge(frame.atoms))
    return replace(frame, readouts=labels)


def _check_sum(charges: np.ndarray, total: float) -> None:
    """Read-outs of charges sum to the structure's: labels that do not are of another one, or cannot be learned."""
    if abs(excess := charges.sum() - total) > _CHARGE_TOLERANCE:
        raise ValueError(
            f"the atoms' charges sum to {total + excess:.3g} e, the structure's charge is {total:g}: name it by "
            "data.charge_key, or leave out data.charges_key"
        )


def centre_of_mass(atoms: Atoms) -> np.ndarray:
    """(3,) Å, by the elements' masses whatever masses the structure has."""
    return Atoms(atoms.numbers, positions=atoms.positions).get_center_of_mass()


@dataclass(frozen=True)
class LabelTensor:
    """Labels of one read-out in a batch, (S or N, …) float64, and which of them are there, (S or N,) bool."""

    values: Tensor
    mask: Tensor
    per_atom: bool

    def to(self, device: torch.device | str) -> LabelTensor:
        """Return it on ``device``."""
        return LabelTensor(self.values.to(device), self.mask.to(device), self.per_atom)


def to_tensors(labels: Mapping[str, Label]) -> dict[str, LabelTensor]:
    """Labels of one structure as those of a batch of one."""
    result = {}
    for name, label in labels.items():
        values = torch.as_tensor(label.values if label.per_atom else label.values[None], dtype=torch.float64)
        result[name] = LabelTensor(values, torch.ones(len(values), dtype=torch.bool), label.per_atom)
    return result


def collate_labels(
    parts: Sequence[Mapping[str, LabelTensor]], num_structures: Sequence[int], num_atoms: Sequence[int]
) -> dict[str, LabelTensor]:
    """Join batches; where one lacks a label that another has, it is zero and masked out.

    Raises
    ------
    ValueError
        If labels of one read-out have different shapes; names it.
    """
    examples = {name: label for part in parts for name, label in part.items()}
    result = {}
    for name, example in examples.items():
        shapes = {_row_shape(part[name]) for part in parts if name in part}
        if len(shapes) > 1:
            raise ValueError(f"labels of {name} differ from one structure to the next: {' and '.join(sorted(shapes))}")
        sizes = num_atoms if example.per_atom else num_structures
        rows = [part.get(name) or _absent(example, size) for part, size in zip(parts, sizes, strict=True)]
        values, mask = (torch.cat([getattr(row, field) for row in rows]) for field in ("values", "mask"))
        result[name] = LabelTensor(values, mask, example.per_atom)
    return result


def _row_shape(label: LabelTensor) -> str:
    return f"{tuple(label.values.shape[1:])} of {'each atom' if label.per_atom else 'a structure'}"


def _absent(example: LabelTensor, size: int) -> LabelTensor:
    shape = (size, *example.values.shape[1:])
    return LabelTensor(example.values.new_zeros(shape), example.mask.new_zeros(size), example.per_atom)


def set_readout_scales(potential: Potential, frames: Sequence[Frame]) -> None:
    """Set the scales, and the references of species, of read-outs that have labels.

    The isotropic polarizability and the charge of a species are least-squares fits; the scale is the root mean square
    of what remains of a component, by √atom where a value is summed over atoms, and 1 where nothing but rounding does.
    """
    for key, read in potential.tensor_readouts().items():
        labelled = [(frame.atoms.numbers, frame.readouts[key]) for frame in frames if key in frame.readouts]
        if not labelled:
            continue
        indices = [potential.species_indices(torch.as_tensor(numbers)).cpu().numpy() for numbers, _ in labelled]
        values = [label.values for _, label in labelled]
        shift = np.zeros(len(potential.species))
        counts = np.array([np.bincount(index, minlength=len(shift)) for index in indices], dtype=float)
        if key == "polarizability":
            isotropic = np.array([np.trace(value) / 3 for value in values])
            shift, *_ = np.linalg.lstsq(counts, isotropic, rcond=1e-8)
            values = [value - mean * np.eye(3) for value, mean in zip(values, counts @ shift, strict=True)]
        elif key == "charges":
            total = sum(np.bincount(i, v, minlength=len(shift)) for i, v in zip(indices, values, strict=True))
            shift = np.asarray(total) / np.maximum(counts.sum(0), 1)
            values = [value - shift[index] for value, index in zip(values, indices, strict=True)]
        atoms = 1.0 if labelled[0][1].per_atom else float(counts.sum(1).mean())
        size = _scale(key, values, [label.values for _, label in labelled], atoms)
        read.scaling.set(scale=[size] * len(shift), shift=shift.tolist())


def _scale(key: str, remaining: Sequence[np.ndarray], labels: Sequence[np.ndarray], atoms: float) -> float:
    """Root mean square of what remains of labels, by √atom; 1 where that is rounding, by which no error is divided.

    Rounding of labels that are zeros has a size that can be told only where their unit is known.
    """
    size = _root_mean_square(remaining)
    least = max(_NO_SPREAD * _root_mean_square(labels), _NO_LABEL if key in _SHAPES else 0.0)
    return size / math.sqrt(atoms) if size > least else 1.0


def _root_mean_square(values: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([value.ravel() for value in values]) ** 2)))
