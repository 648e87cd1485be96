"""How a potential is evaluated while it is trained: by compiled code where there is any, else by autograd."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ase_equivariant.potential import Potential, Prediction
from ase_equivariant.potential.frozen import NotFreezableError
from ase_equivariant.potential.trainable import TrainablePotential
from ase_equivariant.training.dataset import Batch
from ase_equivariant.training.loss import Loss

# Allowed deviation of compiled from autograd's forces and gradients, relative to their length, gradients
# parameter by parameter. Rounding and the splines of the radial functions are below as long as those are smooth enough
# for the splines' knots, a wrong formula is far above.
_FORCES, _GRADIENT = 5e-4, 2e-2
_WEAK_FORCE = 0.5  # eV/Å, below which forces count as so large
_SMALL = 1e-2  # of the whole gradient: the length below which that of one parameter is not looked at more closely


class Evaluator:
    """Predictions of a potential, differentiable by its weights.

    Parameters
    ----------
    potential : Potential
        Its weights may change between calls.
    compiled : bool
        Whether to use compiled code, where there is any for this potential.

    Attributes
    ----------
    compiled : TrainablePotential or None
        What evaluates; None for autograd.
    why_not : str
        Why there is no compiled code although it was asked for; empty otherwise.
    """

    def __init__(self, potential: Potential, compiled: bool):
        self.potential = potential
        self.compiled: TrainablePotential | None = None
        self.why_not = ""
        if compiled:
            try:
                self.compiled = TrainablePotential(potential)
            except NotFreezableError as error:  # a slower run, not a wrong one
                self.why_not = str(error)

    def __call__(self, batch: Batch, *, forces: bool, stress: bool) -> Prediction:
        """Predict; differentiable by the weights if gradients are enabled."""
        if self.compiled is not None:
            return self.compiled(batch.graph, forces=forces, stress=stress)
        training = torch.is_grad_enabled()
        born = "born_effective_charges" in batch.readouts and "dipole" in self.potential.readouts
        return self.potential(batch.graph, forces=forces, stress=stress, create_graph=training, born_charges=born)

    def check(self, batch: Batch, loss: Loss) -> None:
        """Compare compiled code with autograd on a batch; if they disagree, warn and go on with autograd.

        Gradients are of a sum with fixed weights: that of a loss has no direction where there is no error to speak
        of, as for structures that the initial model has labelled itself.
        """
        if self.compiled is None:
            return
        weights = [p for p in self.potential.parameters() if p.requires_grad]
        found = {}
        for name, predict in (("compiled", self), ("autograd", Evaluator(self.potential, compiled=False))):
            prediction = predict(batch, forces=loss.needs_forces, stress=loss.needs_stress)
            gradients = torch.autograd.grad(
                _weighted_sum(prediction), weights, allow_unused=True, materialize_grads=True
            )
            found[name] = (prediction.get("forces", torch.zeros(1)).detach(), gradients)
        gradients, expected = found["compiled"][1], found["autograd"][1]
        whole = torch.cat([g.flatten() for g in expected]).norm()
        at_least = _WEAK_FORCE * found["autograd"][0].numel() ** 0.5
        forces = _deviation(found["compiled"][0], found["autograd"][0], at_least)
        gradient = max(_deviation(*pair, at_least=_SMALL * whole) for pair in zip(gradients, expected, strict=True))
        if not (forces <= _FORCES and gradient <= _GRADIENT):
            warnings.warn(
                f"compiled derivatives differ from autograd's (forces by {forces:.1e}, gradients by {gradient:.1e} of "
                "their size): training goes on with autograd, slower; please report this",
                RuntimeWarning,
                stacklevel=2,
            )
            self.compiled = None


def _weighted_sum(prediction: Prediction) -> Tensor:
    """Energies, forces and virials, each component with a weight of its own, always the same."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for name in ("energy", "forces", "virial"):
        values: Tensor | None = prediction.get(name)  # type: ignore[assignment]
        if values is not None:
            total = total + (torch.randn(values.shape, generator=generator, dtype=torch.float64) * values).sum()
    return total


def _deviation(found: Tensor, expected: Tensor, at_least: float | Tensor = 0.0) -> float:
    """Length of the difference relative to that of what is expected; zero if both are zero."""
    difference, size = float((found - expected).norm()), max(float(expected.norm()), float(at_least))
    return difference / (size or 1.0)
