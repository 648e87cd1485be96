"""The public checks find what they are there to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from cases import potential, system
from e3nn import o3
from e3nn_reference import IGNORE_TORCHSCRIPT

from ase_equivariant.irreps import Irreps
from ase_equivariant.testing import TEST_SYSTEMS, assert_derivatives, assert_equivariant


def products(features, positions):
    """ "1x0e+2x1o" and positions to "1x0e+1x1o+1x1e": dot product, vector, cross product."""
    scalar, a, b = features.split([1, 3, 3], dim=1)
    # Components of l = 1 are x, y, z in e3nn's order as well, so that positions may be mixed with them.
    dot = (a * positions).sum(dim=1, keepdim=True)
    return torch.cat([dot, scalar * b, torch.linalg.cross(a, b)], dim=1)


POSITIONS = torch.tensor(np.random.default_rng(0).normal(size=(6, 3)))


def test_equivariant_function_passes(check):
    violation = assert_equivariant(products, "0e+2x1o", "0e+1o+1e", positions=POSITIONS)
    check("assert_equivariant on vector algebra", violation, 1e-13)


@pytest.mark.parametrize(
    ("irreps_out", "culprit"),
    [("0e+1o+1o", "1o under a rotation with inversion"), ("0o+1o+1e", "0o under a rotation with")],
)
def test_wrong_parity_is_found(irreps_out, culprit):
    with pytest.raises(AssertionError, match=f"not equivariant: {culprit}.* is wrong by [12].*e"):
        assert_equivariant(products, "0e+2x1o", irreps_out, positions=POSITIONS)
    assert_equivariant(products, "0e+2x1o", irreps_out, positions=POSITIONS, inversion=False)


def test_wrong_rotation_is_found():
    with pytest.raises(AssertionError, match="1o under a rotation is wrong"):
        assert_equivariant(lambda x: x.abs(), "2x1o", "2x1o", inversion=False)
    with pytest.raises(AssertionError, match="allowed is 1e-10"):
        assert_equivariant(lambda x: x + 1e-9 * x.square(), "1o", "1o")
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: x * torch.nan, "1o", "1o")


def test_layout_and_precision_of_the_user():
    """e3nn keeps the components of a vector together; a network in float32 is a module like any other."""

    def cross(x):
        assert x.dtype == torch.float32
        return torch.linalg.cross(x[:, :3], x[:, 3:])

    options = {"dtype": torch.float32, "tolerance": 1e-5}
    assert 0 < assert_equivariant(cross, "2x1o", "1e", **options) < 1e-5
    with pytest.raises(AssertionError, match="with e3nn's multiplicity-major features it is right: give e3nn_layout=T"):
        assert_equivariant(cross, "2x1o", "1e", e3nn_layout=False, **options)
    with pytest.raises(AssertionError, match="with component-major features it is right: give e3nn_layout=False"):
        assert_equivariant(lambda x: cross(x.unflatten(1, (3, 2)).mT.flatten(1)), "2x1o", "1e", **options)
    with pytest.raises(AssertionError, match=r"allowed is 1e-05$"):  # neither
        assert_equivariant(lambda x: cross(x).abs(), "2x1o", "1e", **options)


@pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)
def test_modules_of_e3nn():
    """As they are, in their own order of irreps and in single precision."""
    irreps = o3.Irreps("2x1o+4x0e+1x1e")
    assert assert_equivariant(o3.Linear(irreps, "3x0e+2x1o"), irreps, "3x0e+2x1o") < 1e-4
    product = o3.FullyConnectedTensorProduct(irreps, "2x1o", "2x0o+2x2e")
    assert assert_equivariant(product, [irreps, "2x1o"], "2x0o+2x2e") < 1e-4
    with pytest.raises(AssertionError, match="2e under a rotation with inversion"):
        assert_equivariant(product, [irreps, "2x1e"], "2x0o+2x2e")


def test_functions_of_several_features():
    assert assert_equivariant(torch.linalg.cross, ["1o", "1o"], "1e") < 1e-10
    assert assert_equivariant(torch.mul, (Irreps("0o"), "2x1o"), "2x1e") < 1e-10
    assert assert_equivariant(lambda x, y, r: x * y.norm(dim=1)[:, None] + r, ["1o", "2e"], "1o", positions=POSITIONS)
    assert assert_equivariant(torch.relu, [(2, "0e"), (1, (0, 1))], "3x0e") == 0  # pairs: irreps of one
    with pytest.raises(AssertionError, match="1o under a rotation with inversion is wrong by 2"):
        assert_equivariant(torch.linalg.cross, ["1o", "1o"], "1o")
    with pytest.raises(ValueError, match=r"irreps_in\[1\] should be irreps, such as '8x0e.4x1o', it is 3"):
        assert_equivariant(torch.linalg.cross, ["1o", 3], "1o")


def test_a_module_in_its_own_precision():
    for dtype, error in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        assert assert_equivariant(torch.nn.Linear(1, 4, dtype=dtype), "0e", "4x0e") == 0
        with pytest.raises(AssertionError, match=f"allowed is {error:.0e}"):
            assert_equivariant(torch.nn.Linear(3, 3, bias=False, dtype=dtype), "1o", "1o")


@pytest.mark.parametrize("factor", [2.0, 1e6])
def test_results_below_float64_are_compared_as_such(factor):
    """Whatever precision the function was given, and what vanishes by symmetry included."""

    def cross(x):
        x = x.float()
        return torch.cat([factor * x[:, :3], torch.linalg.cross(x[:, :3], 0.7 * x[:, :3])], dim=1)

    assert 0 < assert_equivariant(lambda x: factor * x.float(), "1o", "1o") < 1e-4
    assert assert_equivariant(lambda x: factor * x.numpy().astype("f4"), "1o", "1o") < 1e-4
    assert assert_equivariant(cross, "2x1o", "1o+1e") < 1e-4
    with pytest.raises(AssertionError, match="allowed is 1e-04"):
        assert_equivariant(lambda x: x.float() + 1e-2 * x.float().square(), "1o", "1o")
    with pytest.raises(AssertionError, match="allowed is 1e-10"):
        assert_equivariant(lambda x: x.float(), "1o", "1o", tolerance=1e-10)


def test_precisions_by_name():
    def same(x):
        assert x.dtype == torch.float32
        return x

    assert assert_equivariant(same, "1o", "1o", dtype="float32") < 1e-4


def test_features_are_where_a_module_is():
    class Elsewhere(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.zeros(3, device="meta"))  # a device that every machine has

        def forward(self, x, r):
            assert x.device == r.device == self.table.device
            return torch.zeros(len(x), 3)

    assert assert_equivariant(Elsewhere(), "1o", "1o", positions=POSITIONS) == 0


def test_wrong_size_is_found():
    with pytest.raises(AssertionError, match="the result has 3 components, 2x1o has 6"):
        assert_equivariant(lambda x: x, "1o", "2x1o")


@pytest.mark.parametrize("spoilt", range(1, 7))
def test_one_evaluation_that_is_not_finite_is_found(spoilt):
    """Also if finite violations, of rounding, follow: NaN is larger than nothing."""
    calls = iter(range(7))
    with pytest.raises(AssertionError, match=r"1o under a rotation.* is wrong by nan, as a result is not finite"):
        assert_equivariant(lambda x: x * (torch.nan if next(calls) == spoilt else 1.0), "1o", "1o")


def test_another_number_of_rows_is_found():
    calls = iter([8, 8, 1, 8, 8, 8, 8])
    with pytest.raises(AssertionError, match="a result has 1 rows, the first one had 8"):
        assert_equivariant(lambda x: 0 * x[: next(calls)], "1o", "1o")
    with pytest.raises(AssertionError, match="the result has no rows"):
        assert_equivariant(lambda x: x[:0], "1o", "1o")
    with pytest.raises(AssertionError, match=r"should be rows of components, it has the shape \(3,\)"):
        assert_equivariant(lambda x: x[0], "1o", "1o")


def test_functions_may_work_in_place():
    positions, memory = POSITIONS.clone(), torch.empty(8, 6, dtype=torch.float64)
    assert assert_equivariant(lambda x: x.mul_(2), "2x1o", "2x1o") < 1e-10
    assert assert_equivariant(lambda x: torch.mul(x, 2, out=memory), "2x1o", "2x1o") < 1e-10
    assert assert_equivariant(lambda x, r: r.mul_(2), "0e", "1o", positions=positions) < 1e-10
    assert torch.equal(positions, POSITIONS)


def test_numpy_and_positions_only():
    """Positions and results may be arrays; without features the function is given (N, 0)."""
    assert assert_equivariant(lambda x, r: r.numpy() * x.shape[1], "2x0e", "1o", positions=POSITIONS.numpy()) < 1e-10
    for e3nn_layout in (False, True):
        options = {"positions": POSITIONS, "e3nn_layout": e3nn_layout}
        assert assert_equivariant(lambda x, r: r[: len(x)], "", "1o", **options) < 1e-10
        with pytest.raises(AssertionError, match="not equivariant"):
            assert_equivariant(lambda x, r: r.abs(), "", "1o", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rotations": 0}, "num_rotations should be 1 or more, it is 0"),
        ({"tolerance": np.nan}, "tolerance should be 0 or more, it is nan"),
        ({"num_rows": 0}, "num_rows should be 1 or more, it is 0"),
        ({"positions": POSITIONS[:0]}, "the number of positions should be 1 or more"),
        ({"positions": "ethanol"}, r"positions should be a tensor or an array \(N, 3\), not str"),
        ({"positions": POSITIONS[:, :2]}, r"shape \(N, 3\), they are float64 \(6, 2\)"),
        ({"irreps_in": ""}, "irreps_in = '' has no components"),
        ({"irreps_out": ""}, "irreps_out = '' has no components"),
        ({"dtype": torch.complex64}, "dtype should be real floating point"),
        ({"dtype": np.float32}, "dtype should be real floating point, such as torch.float32, it is <class"),
        ({"dtype": "single"}, "dtype 'single' is not supported: choose 'float32' or 'float64'"),
        ({"num_rows": 2.5}, "num_rows should be a whole number, it is 2.5"),
        ({"num_rotations": "3"}, "num_rotations should be a whole number, it is '3'"),
        ({"seed": None}, "seed should be a whole number, it is None"),
        ({"tolerance": "x"}, "tolerance should be a number, it is 'x'"),
        ({"irreps_in": 3}, "irreps_in should be irreps, such as '8x0e.4x1o', it is 3"),
        ({"irreps_out": None}, "irreps_out should be irreps, such as '8x0e.4x1o', it is None"),
        ({"fn": torch.ones(3)}, "fn should be a function or a module, it is tensor"),
    ],
)
def test_settings_that_compare_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        assert_equivariant(**{"fn": torch.relu, "irreps_in": "1o", "irreps_out": "1o", **options})


def test_results_that_are_no_rows_of_numbers():
    with pytest.raises(AssertionError, match="the result is complex: check its real"):
        assert_equivariant(lambda x: x + 1j * torch.relu(x), "1o", "1o")
    with pytest.raises(AssertionError, match="should be a tensor or an array, it is of the type tuple"):
        assert_equivariant(lambda x: (x, x), "1o", "1o")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_irrep_is_on_its_own_scale(dtype):
    """Large scalars hide no wrong vector, and what is zero by symmetry, so rounding, is not accused."""

    def of(vectors):
        return lambda x: torch.cat([1e6 * x.square().sum(dim=1, keepdim=True), vectors(x[:, :3], x[:, 3:])], dim=1)

    with pytest.raises(AssertionError, match=r"1o under a rotation.* is wrong by"):
        assert_equivariant(of(lambda a, b: 0.1 * torch.relu(a)), "2x1o", "0e+1o", dtype=dtype)
    cross, bound = torch.linalg.cross, 1e-4 if dtype == torch.float32 else 1e-10
    zero = of(lambda a, b: cross(a + 0.3 * b, 0.7 * b) + cross(0.7 * b, a))
    assert 0 < assert_equivariant(zero, "2x1o", "0e+1e", dtype=dtype) < bound


def test_what_vanishes_for_these_positions_is_not_accused():
    """Triple products of points in a plane, exact and turned."""

    def volumes(_, r):
        triple = (r * torch.linalg.cross(r.roll(1, 0), r.roll(2, 0))).sum(dim=1, keepdim=True)
        return torch.cat([r.norm(dim=1, keepdim=True), triple], dim=1)

    flat = POSITIONS * torch.tensor([1.0, 1.0, 0.0])
    for positions in (flat, flat @ torch.linalg.qr(POSITIONS[:3]).Q):
        assert assert_equivariant(volumes, "", "0e+0o", positions=positions) < 1e-10


class Wrong(LennardJones):
    """Lennard-Jones with one wrong derivative."""

    def __init__(self, **factors):
        super().__init__(smooth=True, rc=8.0)
        self.factors = factors

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        for name, factor in self.factors.items():
            if name in self.results:
                self.results[name] = self.results[name] * factor


@pytest.mark.parametrize("name", ["molecule", "bulk", "skewed"])
def test_right_derivatives_pass(name, check):
    check("assert_derivatives on Lennard-Jones", assert_derivatives(Wrong(), TEST_SYSTEMS[name]()), 1e-6)


class Charged(LennardJones):
    """Its interactions grow with what a structure says of its charge and its atoms."""

    def calculate(self, atoms, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        factor = 1 + atoms.info.get("charge", 0) + atoms.get_initial_magnetic_moments().sum() + atoms.get_tags().sum()
        factor += atoms.get_initial_charges().sum()
        self.results = {name: value * factor for name, value in self.results.items()}


def test_what_the_energy_depends_on_is_kept():
    for name in ("molecule", "skewed"):
        atoms = TEST_SYSTEMS[name]()
        atoms.info["charge"] = 1
        atoms.set_initial_charges(np.full(len(atoms), 0.1))
        atoms.set_initial_magnetic_moments(np.full(len(atoms), 0.2))
        atoms.set_tags(np.ones(len(atoms), dtype=int))
        atoms.set_constraint(FixAtoms([0]))
        assert assert_derivatives(Charged(smooth=True, rc=8.0), atoms) < 1e-6


@pytest.mark.parametrize("quantity", ["forces", "stress"])
@pytest.mark.parametrize("factor", [-1.0, 1.00001, np.nan])
def test_wrong_derivatives_are_found(quantity, factor):
    with pytest.raises(
        AssertionError, match=f"{quantity.rstrip('s') if quantity == 'forces' else quantity} .*energy differ"
    ):
        assert_derivatives(Wrong(**{quantity: factor}), TEST_SYSTEMS["mixed"]())


def test_stress_in_the_wrong_order_is_found():
    with pytest.raises(AssertionError, match="stress"):
        assert_derivatives(Wrong(stress=np.array([1, 1, 1, 1, 1, -1])), TEST_SYSTEMS["mixed"]())


class NoStress(LennardJones):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def get_property(self, name, atoms=None, allow_calculation=True):
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(name)
        return super().get_property(name, atoms, allow_calculation)


def test_calculators_without_stress(monkeypatch):
    calculator = NoStress(smooth=True, rc=8.0)
    with pytest.warns(UserWarning, match="NoStress offers no stress: its forces alone are checked"):
        assert assert_derivatives(calculator, TEST_SYSTEMS["skewed"]()) < 1e-6
    monkeypatch.setattr(NoStress, "implemented_properties", ["energy"])
    with pytest.raises(ValueError, match="NoStress offers no forces"):
        assert_derivatives(calculator, TEST_SYSTEMS["skewed"]())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0}, "step should be above 0, it is 0"),
        ({"step": np.inf}, "step should be finite"),
        ({"tolerance": np.nan}, "tolerance should be above 0, it is nan"),
        ({"num_components": 0}, "num_components should be 1 or more, or None for all, it is 0"),
        ({"atoms": Atoms()}, "the structure has no atoms"),
        ({"atoms": "Cu.xyz"}, r"should be ase.Atoms, it is 'Cu.xyz' \(str\): files are read by ase.io.read"),
    ],
)
def test_derivatives_of_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        assert_derivatives(**{"model": LennardJones(), "atoms": TEST_SYSTEMS["atom"](), **options})


def test_float32_is_refused():
    with pytest.raises(ValueError, match=r"need float64, the potential is torch\.float32"):
        assert_derivatives(type(potential("l=1"))(potential("l=1").config).float(), system("mixed"))


def test_systems_are_fresh_and_what_they_are_called():
    for make in TEST_SYSTEMS.values():
        atoms = make()
        atoms.positions += 1.0
        assert not np.array_equal(atoms.positions, make().positions)
    assert TEST_SYSTEMS["molecule"]().cell.rank == 0
    assert TEST_SYSTEMS["slab"]().pbc.tolist() == [True, True, False]
    assert TEST_SYSTEMS["slab"]().cell.rank == 3
    assert TEST_SYSTEMS["wire"]().cell.rank == 1
    assert TEST_SYSTEMS["tiny"]().cell.lengths().min() < 1.75
