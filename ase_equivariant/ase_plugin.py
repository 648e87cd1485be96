"""What ASE's plugin system finds here: the calculator, under the name "equivariant"."""

from ase._4.plugins.plugin import CalculatorPlugin

__ase_plugins__ = {
    CalculatorPlugin(
        "equivariant",
        citation="Batzner et al., Nat. Commun. 13, 2453 (2022)",
        implementation="ase_equivariant.calculator.EquivariantCalculator",
    )
}
