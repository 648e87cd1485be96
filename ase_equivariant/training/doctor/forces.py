"""Forces that cannot be: a net force or torque, zeros where nothing is symmetric, one array for many frames."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding, Severity, count
from ase_equivariant.training.doctor.geometry import ASYMMETRIC, Geometry
from ase_equivariant.training.frames import Frame

# Of the size that independent random forces would have. Density functional codes leave 0.02 and less.
_LOOK, _WRONG = 0.1, 0.4
# eV/Å: in a relaxed structure rounding is all there is.
_TINY = 0.02


def check_forces(data: Dataset) -> list[Finding]:
    """All checks on forces alone; their sign is :mod:`.units`' matter."""
    return [*_check_balance(data), *_check_zeros(data), *_check_repeats(data)]


def _check_balance(data: Dataset) -> list[Finding]:
    net, torque = np.zeros(len(data)), np.zeros(len(data))
    for k, frame in enumerate(data.frames):
        net[k], torque[k] = _net_force(frame), _torque(frame)
    findings = []
    if (worst := net.max(initial=0.0)) > _LOOK:
        severity: Severity = "error" if (net > _WRONG).sum() > 0.02 * len(net) else "warning"
        message = f"forces do not sum to zero: up to {worst:.2g} of what random forces would"
        cure = "fixed atoms, an external field, or atoms missing? a potential's forces sum to zero"
        findings.append(Finding("forces", severity, message, cure, data.numbers_of(np.flatnonzero(net > _LOOK))))
    turning = np.flatnonzero((torque > _LOOK) & (net <= _LOOK))
    if len(turning):
        severity = "error" if (torque[turning] > _WRONG).sum() > 0.02 * len(net) else "warning"
        message = f"forces turn the molecule: a torque of up to {torque[turning].max():.2g} of what random forces have"
        cure = "forces in another orientation (Gaussian's standard one?) or order of atoms than positions"
        findings.append(Finding("forces", severity, message, cure, data.numbers_of(turning)))
    return findings


def _net_force(frame: Frame) -> float:
    if frame.forces is None or _is_relaxed(frame.forces) or len(frame.atoms) < 2:
        return 0.0
    return float(np.linalg.norm(frame.forces.sum(axis=0)) / np.linalg.norm(frame.forces))


def _torque(frame: Frame) -> float:
    if frame.forces is None or _is_relaxed(frame.forces) or frame.atoms.pbc.any() or len(frame.atoms) < 3:
        return 0.0
    arms = frame.atoms.positions - frame.atoms.positions.mean(axis=0)
    each = np.cross(arms, frame.forces)
    expected = np.sqrt((arms**2).sum(axis=1) @ (frame.forces**2).sum(axis=1))
    return float(np.linalg.norm(each.sum(axis=0)) / expected)


def _is_relaxed(forces: np.ndarray) -> bool:
    return bool(np.abs(forces).max(initial=0.0) < _TINY)


def _check_zeros(data: Dataset) -> list[Finding]:
    empty, fixed = [], []
    for k, (frame, geometry) in enumerate(zip(data.frames, data.geometry, strict=True)):
        if frame.forces is None or len(frame.atoms) < 2:
            continue
        zero = _unexpected_zeros(frame.forces, geometry)
        if not frame.forces.any():
            if zero.any():
                empty.append(k)
        elif zero.sum() > 0:
            fixed.append(k)
    findings = []
    if empty:
        message = f"forces are exactly zero in {count(len(empty), 'frame')} where no symmetry makes them so"
        cure = "absent labels filled with zeros? leave them out instead"
        findings.append(Finding("forces", "error", message, cure, data.numbers_of(empty)))
    if fixed:
        message = f"forces on some atoms are exactly zero in {count(len(fixed), 'frame')}, those on others are not"
        cure = "fixed atoms, whose forces the constraint removed? write them without constraints"
        findings.append(Finding("forces", "warning", message, cure, data.numbers_of(fixed)))
    return findings


def _unexpected_zeros(forces: np.ndarray, geometry: Geometry) -> np.ndarray:
    return ~forces.any(axis=1) & (geometry.asymmetry > ASYMMETRIC)


def _check_repeats(data: Dataset) -> list[Finding]:
    """The same forces as labels of different structures."""
    forces: dict[bytes, list[int]] = defaultdict(list)
    for k, frame in enumerate(data.frames):
        if frame.forces is not None and not _is_relaxed(frame.forces):
            forces[np.round(frame.forces, 6).tobytes()].append(k)
    frames = [k for group in forces.values() if len(group) > 1 and data.differ(group) for k in group]
    if not frames:
        return []
    message = f"{count(len(frames), 'frame')} with different positions have the same forces"
    cure = "labels repeated by mistake? compute them again"
    return [Finding("forces", "error", message, cure, data.numbers_of(frames))]
