"""Where atomic energies start from and in what unit the network counts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import atomic_numbers

from ase_equivariant.graph.convert import total_charge
from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError

_SAME_ENERGY = 1e-4  # eV
_FAR = 7.0  # Å
_NO_SPREAD = 1e-5  # eV/atom
_NO_FORCE = 1e-3  # eV/Å, root mean square, below which forces are rounding and give no scale


def species_of(frames: Iterable[Frame]) -> tuple[str, ...]:
    """Chemical symbols in the frames, by atomic number."""
    symbols = {symbol for frame in frames for symbol in set(frame.atoms.get_chemical_symbols())}
    return tuple(sorted(symbols, key=atomic_numbers.__getitem__))


def reference_energies(
    config: DataConfig, species: Sequence[str], train: Sequence[Frame], isolated: Sequence[Frame] = ()
) -> np.ndarray:
    """Energy of an atom of each species in eV, (n_species,), as ``config.references`` asks.

    Raises
    ------
    DataError
        If a species has no value, or there are no energies to fit.
    """
    if config.references == "none":
        return np.zeros(len(species))
    if config.references == "least_squares":
        return least_squares_energies(species, train)
    if config.references == "isolated_atoms":
        values, source = (
            isolated_energies(isolated),
            "no lone, neutral atom with an energy; give data.isolated_atoms a file that has it",
        )
    else:
        values, source = config.references, "no value in data.references"
    missing = [symbol for symbol in species if symbol not in values]
    if missing:
        raise DataError(f"reference energies: {', '.join(missing)}: {source}")
    return np.array([values[symbol] for symbol in species])


def isolated_energies(frames: Sequence[Frame]) -> dict[str, float]:
    """Energies in eV of the lone, neutral atoms among the frames, by symbol; a crystal of one atom is none.

    Raises
    ------
    DataError
        If two atoms of an element have different energies.
    """
    energies: dict[str, float] = {}
    for frame in frames:
        if not _is_lone(frame) or frame.energy is None or total_charge(frame.atoms):
            continue
        symbol = frame.atoms.get_chemical_symbols()[0]
        known = energies.setdefault(symbol, frame.energy)
        if abs(known - frame.energy) > _SAME_ENERGY:
            raise DataError(
                f"reference energies: lone atoms of {symbol} have {known:g} and {frame.energy:g} eV: keep one of them"
            )
    return energies


def _is_lone(frame: Frame) -> bool:
    """A single atom without periodic images, or with images far away, as plane-wave codes have it."""
    periodic = frame.atoms.cell.lengths()[frame.atoms.pbc]
    return len(frame.atoms) == 1 and bool((periodic > _FAR).all())


def least_squares_energies(species: Sequence[str], frames: Sequence[Frame]) -> np.ndarray:
    """Solve ``min_e Σ_s ((E_s − Σ_z n_sz e_z) / N_s)²`` for the energies of species, (n_species,) eV.

    Where compositions do not tell species apart (one molecule, a fixed stoichiometry), the
    solution of smallest norm is taken: the mean energy is right, how it is shared is arbitrary.
    """
    labelled = [(composition(frame, species), frame.energy) for frame in frames if frame.energy is not None]
    if not labelled:
        raise DataError("reference energies: no training structure has an energy; set data.references = 'none'")
    counts, energies = (np.array(column, dtype=float) for column in zip(*labelled, strict=True))
    atoms = counts.sum(axis=1)
    solution, *_ = np.linalg.lstsq(counts / atoms[:, None], energies / atoms, rcond=1e-8)
    return solution


def composition(frame: Frame, species: Sequence[str]) -> np.ndarray:
    """How many atoms of each species, (n_species,)."""
    symbols = np.array(frame.atoms.get_chemical_symbols())
    return np.array([np.count_nonzero(symbols == symbol) for symbol in species])


def energy_scales(config: DataConfig, species: Sequence[str], train: Sequence[Frame]) -> np.ndarray:
    """Unit of the network's output for each species in eV, (n_species,), as ``config.scale`` asks.

    The root mean square force (eV/Å) makes outputs of order one give forces of the size
    they have, as their features change over distances of about 1 Å. Where there are no forces, or
    none but those of relaxed crystals, it is the spread of energies per atom, and 1 eV where that is none either.
    """
    if config.scale == "none":
        return np.ones(len(species))
    if isinstance(config.scale, float):
        return np.full(len(species), config.scale)
    squares, counts = np.zeros(len(species)), np.zeros(len(species))
    for frame in train:
        if frame.forces is not None:
            symbols = np.array(frame.atoms.get_chemical_symbols())
            for k, symbol in enumerate(species):
                own = frame.forces[symbols == symbol]
                squares[k] += float((own**2).sum())
                counts[k] += own.size
    sizes = np.sqrt(squares / np.maximum(counts, 1))
    overall = np.sqrt(squares.sum() / max(counts.sum(), 1))
    if overall < _NO_FORCE:
        return np.full(len(species), _energy_spread(species, train))
    return np.where((sizes < _NO_FORCE) | (config.scale == "forces_rms"), overall, sizes)


def _energy_spread(species: Sequence[str], frames: Sequence[Frame]) -> float:
    """Root mean square of energies per atom beside those of the elements, eV."""
    labelled = [frame for frame in frames if frame.energy is not None]
    if not labelled:
        return 1.0
    elements = least_squares_energies(species, labelled)
    rest = [(f.energy or 0.0) - composition(f, species) @ elements for f in labelled]
    spread = float(np.sqrt(np.mean((np.array(rest) / [len(f.atoms) for f in labelled]) ** 2)))
    return spread if spread > _NO_SPREAD else 1.0
