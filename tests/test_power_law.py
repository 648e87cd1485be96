"""Power laws through errors."""

import pytest

from ase_equivariant.plotting.figure import new_figure
from ase_equivariant.plotting.power_law import fit_power_law, plot_power_laws


def test_a_power_law_is_found(check):
    sizes = [10, 30, 100, 300, 950]
    factor, exponent = fit_power_law(sizes, [300 * n**-0.7 for n in sizes])
    check("factor", abs(factor / 300 - 1), 1e-10)
    check("exponent", abs(exponent + 0.7), 1e-10)


@pytest.mark.parametrize(("x", "y"), [([10, 10], [1.0, 2.0]), ([10, 20], [1.0, 0.0]), ([0, 20], [1.0, 2.0])])
def test_what_has_no_power_law(x, y):
    with pytest.raises(ValueError, match=r"a power law needs two different x and positive values, found x = \["):
        fit_power_law(x, y)


def test_legend_has_the_exponents():
    ax = new_figure().subplots()
    plot_power_laws({"steep": [(10, 100.0), (100, 1.0)], "alone": [(10, 5.0), (10, 6.0)]}, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["steep: $N^{-2.00}$", "alone"]
