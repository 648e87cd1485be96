"""Stress: symmetric, positive under tension, in eV/Å³, in ASE's order."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
from ase.units import Bohr, GPa, Hartree

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding
from ase_equivariant.training.doctor.robust import robust_fit

# eV/Å³ that a stress of one unit of the file is.
_UNITS = {"GPa": GPa, "kbar": 0.1 * GPa, "bar": 1e-4 * GPa, "Hartree/Bohr³": Hartree / Bohr**3}
_SCATTER = 0.35  # of the logarithm of the slope; Pulay stress alone makes 0.3
_EXTREME = 1.0  # eV/Å³, 160 GPa
_BULK_MODULI = (0.1 * GPa, 1000 * GPa)
# ASE's order
_VOIGT, _NAMES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)), ("xx", "yy", "zz", "yz", "xz", "xy")


def check_stress(data: Dataset) -> list[Finding]:
    """Symmetry, sign, unit and order of stresses."""
    labelled = [k for k, frame in enumerate(data.frames) if frame.stress is not None]
    if not labelled:
        return []
    findings = _check_symmetry(data, labelled)
    if order := _check_order(data):  # what its work says of sign and unit is not the stress's own
        return findings + order
    by_energy = _check_slope(data)
    findings += by_energy if by_energy is not None else _check_compression(data, labelled)
    if not any(finding.severity == "error" for finding in findings):
        findings += _check_size(data, labelled)
    return findings


def _with_volume(data: Dataset) -> list[int]:
    """Frames with stress in a cell; some programs write one for molecules."""
    return [k for k, frame in enumerate(data.frames) if frame.stress is not None and frame.atoms.cell.rank == 3]


def _check_symmetry(data: Dataset, labelled: list[int]) -> list[Finding]:
    wrong = []
    for k in labelled:
        stress = np.asarray(data.frames[k].stress)
        if np.abs(stress - stress.T).max() > 1e-3 * np.abs(stress).max() + 1e-6:
            wrong.append(k)
    if not wrong:
        return []
    cure = "nine numbers in another order, or a Piola stress? ASE's is the symmetric Cauchy stress"
    return [Finding("stress", "error", "stress is not symmetric", cure, data.numbers_of(wrong))]


def _check_slope(data: Dataset) -> list[Finding] | None:
    """Energy changes under strain against the work of stress; None where the frames cannot tell."""
    force, stress = data.slopes
    if not stress.known or (force.known and abs(math.log(abs(force.value))) > 0.7):
        return None
    says = f"energies change under strain by {stress.value:.3g} ± {stress.error:.1g} times the work of stress"
    says += f" ({stress.pairs} pairs of near frames)"
    if abs(math.log(abs(stress.value))) < 3 * _SCATTER:
        if stress.value > 0:
            return [Finding("stress", "note", f"{says}: sign and unit are ASE's")]
        if data.stress_is_against_energies:  # then it is told with that of the forces
            return [Finding("stress", "note", f"{says}: the unit is ASE's")]
        cure = "multiply by −1 in the file, or give it as --virial-key if it is a virial; ASE's is positive in tension"
        return [Finding("stress", "error", f"{says}: the sign is wrong", cure)]
    volumes = [data.frames[k].atoms.get_volume() for k in _with_volume(data)]
    factors = _UNITS | ({"eV, a virial": 1 / float(np.median(volumes))} if volumes else {})
    name, factor = min(factors.items(), key=lambda item: abs(math.log(abs(stress.value) / item[1])))
    if abs(math.log(abs(stress.value) / factor)) > 3 * _SCATTER:
        return [Finding("stress", "error", f"{says}: neither the unit nor the sign need be ASE's",
                        "convert stress to eV/Å³, positive in tension")]  # fmt: skip
    sign = "" if stress.value > 0 else ", with the opposite sign"
    if "virial" in name:
        cure = "read it with --virial-key" + (", whose sign is that of −stress" if stress.value > 0 else "")
    else:
        cure = f"multiply by {math.copysign(factor, stress.value):.6g} in the file"
    return [Finding("stress", "error", f"{says}: looks like {name}{sign}", cure)]


def _check_compression(data: Dataset, labelled: list[int]) -> list[Finding]:
    """Within one composition, tension grows with volume: the slope is the bulk modulus over the volume."""
    moduli, with_volume = [], set(_with_volume(data))
    for group in data.group(lambda frame: frame.atoms.symbols.formula.reduce()[0].format("hill")):
        places = [k for k in group if k in with_volume]
        volumes = np.array([data.frames[k].atoms.get_volume() / len(data.frames[k].atoms) for k in places])
        if len(places) < 10 or volumes.std() < 0.01 * volumes.mean():
            continue
        tension = np.array([np.trace(np.asarray(data.frames[k].stress)) / 3 for k in places])
        columns = np.stack([np.log(volumes / volumes.mean()), np.ones(len(places))], axis=1)
        (modulus, _), (error, _) = robust_fit(columns, tension)
        if error < 0.2 * abs(modulus):
            moduli.append(modulus)
    if not moduli:
        return [Finding("stress", "note", "cannot tell sign and unit: no near frames of different volume")]
    modulus = float(np.median(moduli))
    says = f"the bulk modulus is {modulus / GPa:.3g} GPa, from stress at different volumes"
    if modulus < 0:
        cure = "multiply by −1 in the file, or give it as --virial-key if it is a virial; ASE's is positive in tension"
        return [Finding("stress", "error", f"{says}: the sign is wrong", cure)]
    if not _BULK_MODULI[0] < modulus < _BULK_MODULI[1]:
        return [Finding("stress", "warning", f"{says}: is it in eV/Å³?", "divide GPa by 160.2177, kbar by 1602.177")]
    return [Finding("stress", "note", f"{says}: plausible")]


def _check_size(data: Dataset, labelled: list[int]) -> list[Finding]:
    size = float(np.median([np.abs(np.asarray(data.frames[k].stress)).max() for k in labelled]))
    if size < _EXTREME:
        return []
    message = f"stress of {size:.3g} eV/Å³ ({size / GPa:.3g} GPa) in the median frame"
    return [Finding("stress", "warning", message, "in GPa or kbar? divide GPa by 160.2177, kbar by 1602.177")]


def _check_order(data: Dataset) -> list[Finding]:
    """Strains against changes of stress: each belongs with its own component, also in VASP's order."""
    used = np.abs(data.pairs.strain).max(axis=(1, 2), initial=0.0) > 1e-4
    if used.sum() < 10:
        return []
    strain, change = (_shapes(values[used]) for values in (data.pairs.strain, data.pairs.stress_change))
    volume = np.trace(data.pairs.strain[used], axis1=1, axis2=2)
    table = _correlations(_without(volume, strain), _without(volume, change))
    best, signed = max((_assignment(sign * table) for sign in (1, -1)), key=lambda found: found[2])[:2]
    wrong = [k for k in range(6) if best[k] != k and signed[k, k] < 0.4 and signed[k, best[k]] > 0.7]
    if not wrong:
        return []
    kind = "shears" if min(wrong) > 2 else "strains"
    own, other = max(signed[k, k] for k in wrong), min(signed[k, best[k]] for k in wrong)
    stresses, strains = (", ".join(_NAMES[k] for k in order) for order in ([best[k] for k in wrong], wrong))
    message = f"stresses {stresses} go with the {kind} {strains} (correlation {other:.2f}, with their own {own:.2f})"
    return [Finding("stress", "error", message, f"another order in the file: ASE's is {' '.join(_NAMES)}")]


def _shapes(tensors: np.ndarray) -> np.ndarray:
    """(P, 6) components of symmetric tensors in ASE's order."""
    rows, columns = zip(*_VOIGT, strict=True)
    return tensors[:, rows, columns]


def _without(volume: np.ndarray, components: np.ndarray) -> np.ndarray:
    """What the change of volume does not explain: all normal stresses follow it, in whatever order."""
    weights = volume @ components / max(float(volume @ volume), 1e-12)
    rest = components - volume[:, None] * weights
    return rest - rest.mean(axis=0)


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(6, 6); zero for components that do not vary."""
    sizes = [np.linalg.norm(values, axis=0) for values in (a, b)]
    sizes = [np.where(size > 1e-6 * size.max(initial=0.0), size, np.inf) for size in sizes]
    return (a / sizes[0]).T @ (b / sizes[1])


def _assignment(table: np.ndarray) -> tuple[tuple[int, ...], np.ndarray, float]:
    """The order in which strains and stresses go together best, the table, and the sum of correlations."""
    best = max(permutations(range(6)), key=lambda order: sum(table[k, order[k]] for k in range(6)))
    return best, table, float(table[range(6), best].sum())
