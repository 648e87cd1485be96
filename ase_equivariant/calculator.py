"""The ASE calculator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from ase_equivariant.dispersion import D3Settings, make_d3
from ase_equivariant.graph.convert import (
    atoms_to_graph,
    dipole_of_isotopes,
    graph_from_edges,
    refuse_coinciding_atoms,
    total_charge,
    with_moments,
)
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.graph.neighbors import VerletList
from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.io.open_model import open_model
from ase_equivariant.potential.content_hash import content_hash
from ase_equivariant.potential.fast_path import FastPath
from ase_equivariant.potential.potential import PeriodicChargesError, Potential, Prediction
from ase_equivariant.potential.response import hessian, polarizability_derivatives
from ase_equivariant.potential.verification import Verification
from ase_equivariant.precision import parse_dtype

Preset = Literal["md", "relax", "phonon"]

PRESETS: dict[str, torch.dtype] = {"md": torch.float32, "relax": torch.float64, "phonon": torch.float64}


class EquivariantCalculator(Calculator):
    """Energies, forces and stress from an equivariant neural network potential.

    >>> from ase.build import molecule
    >>> from ase_equivariant import EquivariantCalculator
    >>> atoms = molecule("CH3CH2OH")
    >>> atoms.calc = EquivariantCalculator("ethanol")
    >>> forces = atoms.get_forces()

    Gives ``energy`` and ``free_energy`` (eV, equal), ``energies`` (eV per atom),
    ``forces`` (eV/Å) and, if the atoms have a three-dimensional cell, ``stress`` and
    ``stresses`` (Voigt xx yy zz yz xz xy, eV/Å³, tensile positive). Of a model with other read-outs, where they are
    asked for: ``dipole`` (e·Å; of an ion, for which ``atoms.info["charge"]`` says its charge in e, about the centre of
    mass, which no file says: training on them takes ``data.dipole_origin = "mass"``), ``charges`` (e),
    ``polarizability`` (3, 3) in e²·Å²/eV, ``born_effective_charges`` (N, 3, 3) in e, and those with names of their own.
    (ASE's extended XYZ cannot hold Born effective charges, and fails if results have them: set ``atoms.calc = None``,
    or write before asking for them. Polarizabilities are not written either.)

    Parameters
    ----------
    model : str, Path or Potential
        Name of a shipped or universal model, path of a model file, or a potential, which is copied.
        A universal model ("sevennet-0", …) is fetched and converted when first asked for.
    device : str
        "cpu", "cuda", "cuda:1" …
    dtype : "float32", "float64" or torch.dtype, optional
        Precision of the network; energies are always summed in float64.
    skin : float
        Å by which the neighbour list reaches beyond the cutoff, so that it is reused
        until atoms have moved half as far; 0 rebuilds it at every step.
    preset : {"md", "relax", "phonon"}, optional
        "md" means float32, "relax" and "phonon" float64; default float64. ``dtype`` wins.
    fast : bool, optional
        Whether to evaluate the model by compiled code with tabulated radial functions: default where that is
        possible, for NequIP on the CPU, with a compiler at installation. It is compared with the eager float64 model
        on the first structure of every set of elements; see :meth:`verify`.
    modal : str, optional
        Level of theory of a multi-fidelity model, such as "PBE" of "sevennet-mf-0".
    dispersion : "d3", dict or D3Settings, optional
        Adds DFT-D3 (package ``dftd3``), "d3" for the functional of the model's training data;
        ``stresses`` are then absent.

    Raises
    ------
    ValueError
        For elements the model does not know, positions that are not finite, two atoms at
        one point, and arguments that make no sense, such as ``fast=True`` for what has no compiled code.

    References
    ----------
    Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012 - ASE's type
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 - the model does not see them

    def __init__(
        self,
        model: str | Path | Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 1.0,
        preset: Preset | None = None,
        fast: bool | None = None,
        modal: str | None = None,
        dispersion: str | dict[str, Any] | D3Settings | None = None,
    ):
        precision = _precision(dtype, preset)
        place = _device(device)
        self.card: ModelCard | None = None
        potential, header = open_model(model, modal)
        if header is None:
            potential, self.model_name, self.model_sha256 = deepcopy(potential), "custom", content_hash(potential)
        else:
            self.card, self.model_name, self.model_sha256 = header.card, header.card.name, header.sha256
        exact = potential.to(device=place, dtype=torch.float64).requires_grad_(False)
        self.potential = exact if precision == torch.float64 else deepcopy(exact).to(precision)
        self._fast = FastPath.wanted(fast, exact, precision)
        self.neighbors = VerletList(potential.cutoff, skin)
        theory = None if self.card is None else self.card.level_of_theory
        self.dispersion = None if dispersion is None else make_d3(dispersion, theory)
        self._readouts = {readout.key for readout in potential.config.readouts}
        own = [name for name in type(self).implemented_properties if self.dispersion is None or name != "stresses"]
        self.implemented_properties = [*own, *sorted(self.readouts)]
        self.prediction: Prediction | None = None
        super().__init__()
        self.parameters.update(
            model=self.model_name,
            model_sha256=self.model_sha256,
            device=str(place),
            dtype=str(precision).removeprefix("torch."),
            skin=float(skin),
        )
        if preset is not None:
            self.parameters["preset"] = preset
        if fast is False:
            self.parameters["fast"] = False
        if modal is not None:
            self.parameters["modal"] = modal
        if self.dispersion is not None:
            self.parameters["dispersion"] = self.dispersion.settings.model_dump()

    @property
    def readouts(self) -> set[str]:
        """Names of what the model predicts beside energy, forces and stress."""
        return self._readouts | ({"born_effective_charges"} if "dipole" in self._readouts else set())

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols the model knows."""
        return self.potential.species

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return self.potential.cutoff

    def __repr__(self) -> str:
        shown = {k: self.parameters[k] for k in ("modal", "device", "dtype", "dispersion") if k in self.parameters}
        options = "".join(f", {name}={value!r}" for name, value in shown.items())
        return f"EquivariantCalculator({self.model_name!r}{options})"

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse: the settings are fixed at construction."""
        if kwargs:
            raise TypeError(
                f"{', '.join(sorted(kwargs))}: the settings of an EquivariantCalculator are fixed; construct a new one"
            )
        return {}

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """JSON-safe settings with the model's name and sha256 and the package version."""
        from ase_equivariant import __version__  # the package imports this module

        return {**self.parameters, "version": __version__}

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What changed since the last calculation, to the last bit (ASE's default lets 1e-15 pass)."""
        known = self.atoms
        if known is None or len(known) != len(atoms):
            return list(all_changes)
        pairs = {
            "positions": (known.positions, atoms.positions),
            "numbers": (known.numbers, atoms.numbers),
            "cell": (known.cell.array, atoms.cell.array),
            "pbc": (known.pbc, atoms.pbc),
        }
        # ASE's own comparison allows for arrays of any kind and takes longer than a small molecule's forces.
        changed = [name for name, (old, new) in pairs.items() if not (old == new).all()]
        if self._readouts and (charge := total_charge(atoms)) != _charge_or_none(known):
            changed.append("info")
        # The dipole of an ion is about the centre of its masses.
        elif "dipole" in self._readouts and charge and not np.array_equal(known.get_masses(), atoms.get_masses()):
            changed.append("masses")
        return changed

    @property
    def is_fast(self) -> bool:
        """Whether compiled code evaluates the model."""
        return self._fast is not None and self._fast.compiled is not None

    def verify(self, atoms: Atoms | None = None, max_atoms: int | None = None) -> Verification:
        """Compare the compiled evaluation with the eager float64 model on a structure.

        Parameters
        ----------
        atoms : ase.Atoms, optional
            Default the structure of the last calculation.
        max_atoms : int, optional
            Compare on a neighbourhood of so many atoms; default all of them, which takes the eager model's memory.

        Returns
        -------
        Verification
            Largest deviations and the bounds; ``passed``. If they are exceeded the calculator falls back to the
            eager model with a warning.

        Raises
        ------
        ValueError
            If the model is evaluated eagerly anyway, or there is no structure.
        """
        structure = self.atoms if atoms is None else atoms
        if structure is None:
            raise ValueError("there is no structure yet: give one to verify(atoms)")
        if self._fast is None or self._fast.compiled is None:
            why = "" if self._fast is None else f" ({self._fast.reason})"
            raise ValueError(f"this calculator evaluates its model eagerly{why}: there is nothing to compare")
        return self._fast.check(_checked_graph(structure, self.cutoff), max_atoms)

    def get_hessian(self, atoms: Atoms | None = None) -> np.ndarray:
        """Second derivatives of the energy by the positions, (3 N, 3 N) eV/Å², of a crystal at the Γ point.

        By automatic differentiation in the calculator's dtype, which is to be float64 for frequencies; rows and
        columns are x, y, z of atom 0, then of atom 1 …, as :meth:`ase.vibrations.VibrationsData.from_2d` takes them.

        Raises
        ------
        PropertyNotImplementedError
            With dispersion, of which there are no second derivatives.
        ValueError
            If two atoms are at one point, or there is none.
        CalculatorError
            If they are not finite.
        """
        if self.dispersion is not None:
            raise PropertyNotImplementedError(
                "there are no analytic second derivatives of D3: use a calculator without dispersion, or finite "
                "differences (ase.vibrations.Vibrations)"
            )
        found = hessian(self.potential, self._graph_of(atoms)).cpu().numpy()
        if not np.isfinite(found).all():
            raise CalculatorError("the model gives second derivatives that are not finite for this structure")
        return found

    def get_polarizability_derivatives(self, atoms: Atoms | None = None) -> np.ndarray:
        """``dα_ab/dr_ic``, (3, 3, N, 3) e²·Å/eV, of a model that predicts a polarizability.

        Raises
        ------
        ValueError
            If it does not, two atoms are at one point, or there is none.
        """
        return polarizability_derivatives(self.potential, self._graph_of(atoms)).cpu().numpy()

    def _graph_of(self, atoms: Atoms | None) -> AtomicGraph:
        structure = self.atoms if atoms is None else atoms
        if structure is None:
            raise ValueError("there is no structure yet: give one")
        return _checked_graph(structure, self.cutoff).to(self.potential.device)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute energy and all its derivatives at once and fill ``results``; the tensors stay in ``prediction``.

        Other read-outs are computed too, if one of them is among ``properties`` or there is no compiled code.

        Raises
        ------
        PropertyNotImplementedError
            If the dipole of a periodic structure is asked for, or its derivatives if there are point charges in it.
        """
        super().calculate(atoms, properties, system_changes)
        self.results, self.prediction = {}, None  # if this fails, nothing old is left to be taken for the new atoms
        structure = self.atoms
        assert structure is not None
        if "dipole" in properties and "dipole" in self._readouts and structure.pbc.any():
            raise PropertyNotImplementedError(
                "the dipole of a periodic structure is not defined, as it changes with the choice of the cell: "
                "ask for born_effective_charges, its derivatives, or switch pbc off"
            )
        graph = self.graph(structure, self.neighbors)
        try:
            prediction = self.predict([graph], stress=_has_volume(structure), properties=properties)
        except PeriodicChargesError as error:  # who asks for all that is implemented catches ASE's error
            raise PropertyNotImplementedError(str(error)) from None
        self.prediction = prediction
        results = _to_results(prediction, structure)
        results.update(_readout_results(prediction, self.potential))
        if "dipole" in results:
            results["dipole"] = results["dipole"] + dipole_of_isotopes(structure)
        if self.dispersion is not None:
            results = self.dispersion.add_to(results, structure)
        broken = [name for name in ("energy", "forces") if not np.isfinite(results[name]).all()]
        if broken:
            raise CalculatorError(f"the model gives {' and '.join(broken)} that are not finite for this structure")
        self.results = results

    def graph(self, atoms: Atoms, neighbors: VerletList) -> AtomicGraph:
        """Graph of a structure for :meth:`predict`, with a neighbour list that the caller keeps for it.

        Raises
        ------
        ValueError
            For positions that are not finite, a cell that makes no sense, two atoms at one point.
        """
        edge_index, edge_vectors = neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)
        refuse_coinciding_atoms(edge_index, edge_vectors)
        graph = graph_from_edges(atoms, edge_index, edge_vectors, dtype=torch.float64, device=self.potential.device)
        return with_moments(graph, atoms) if self._readouts else graph

    def predict(self, graphs: Sequence[AtomicGraph], *, stress: bool, properties: Collection[str] = ()) -> Prediction:
        """The model's prediction for float64 graphs, all in one evaluation, without dispersion.

        Compiled code evaluates where there is any; it is checked as in :meth:`calculate`, on each of the graphs that
        has a new set of elements. Other read-outs are there if one of them is among ``properties``, or there is no
        compiled code.
        """
        fast = None
        if self._fast is not None:
            for graph in graphs:
                fast = self._fast.for_graph(graph)
        together = graphs[0] if len(graphs) == 1 else AtomicGraph.collate(graphs)
        prediction = (fast or self.potential)(together, stress=stress)
        born = "born_effective_charges" in properties
        if born or (fast is not None and self._readouts & set(properties)):
            others = self.potential(together, forces=False, born_charges=born)
            prediction.update(cast(Prediction, {k: v for k, v in others.items() if k not in prediction}))
        return prediction


def _charge_or_none(atoms: Atoms) -> float | None:
    """The charge of a structure that has been tried; None if that was no number, from which every other differs."""
    try:
        return total_charge(atoms)
    except ValueError:
        return None


def _checked_graph(atoms: Atoms, cutoff: float) -> AtomicGraph:
    """The float64 graph of a structure, if no two of its atoms are at one point."""
    graph = atoms_to_graph(atoms, cutoff)
    refuse_coinciding_atoms(graph.edge_index.numpy(), graph.edge_vectors.numpy())
    return graph


def _to_results(prediction: Prediction, atoms: Atoms) -> dict[str, Any]:
    """The prediction in ASE's types, units and order."""
    energies = prediction["node_energies"].cpu().numpy()
    energy = float(energies.sum())
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "energies": energies,
        "forces": prediction["forces"].to("cpu", torch.float64).numpy(),
    }
    if _has_volume(atoms):
        stresses = -prediction["node_virials"].to("cpu", torch.float64).numpy() / atoms.get_volume()
        # Contiguous: ASE hands out contiguous copies, and their sum should be `stress` to the last bit.
        results["stresses"] = np.ascontiguousarray(full_3x3_to_voigt_6_stress(stresses))
        results["stress"] = results["stresses"].sum(axis=0)
    return results


def _readout_results(prediction: Prediction, potential: Potential) -> dict[str, np.ndarray]:
    """Read-outs as arrays, of the one structure or by atom."""
    per_atom = {readout.key: readout.per_atom for readout in potential.config.readouts}
    per_atom["born_effective_charges"] = True
    results = {}
    for name, of_atoms in per_atom.items():
        if name in prediction:
            value = cast(Tensor, prediction[name]).to("cpu", torch.float64).numpy()  # type: ignore[literal-required]
            results[name] = value if of_atoms else value[0]
    return results


def _has_volume(atoms: Atoms) -> bool:
    """Whether there is a stress. ASE's cell.rank counts the vectors that are not zero, parallel or not."""
    return bool(atoms.cell.volume > 1e-8 * atoms.cell.lengths().prod())


def _precision(dtype: str | torch.dtype | None, preset: str | None) -> torch.dtype:
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    if dtype is None:
        return PRESETS[preset or "relax"]
    return parse_dtype(dtype)


def _device(device: str | torch.device) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({str(error).splitlines()[0]}): try 'cpu'"
        ) from None
    return place
