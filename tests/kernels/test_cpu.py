"""The fused convolution against its definition: values, all derivatives, threads, edges in any order, bad input."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings
import weakref

import pytest
import torch
from ase.build import molecule
from e3nn_reference import relative

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.irreps import Irreps, merge
from ase_equivariant.kernels import ConvPlan, PlanTables, cpu, dispatch, reference, tensor_product_conv, use_backend

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    LIBRARY = cpu.library()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the kernels are not compiled: python hatch_build.py")
LEVELS = range(LIBRARY.conv_best_level() + 1) if LIBRARY else []
every_level = pytest.mark.parametrize("level", LEVELS)

PLANS = {
    "scalars": ("3x0e", "0e", "0e"),
    "one channel": ("1x0e+1x1o+1x2e", "0e+1o+2e", "0e+1o+2e"),
    "whole vectors": ("32x0e+32x1o+32x2e", "0e+1o+2e", "0e+1o+2e"),
    "unequal": ("17x0e+7x0o+3x1e+33x1o+1x2e+5x2o", "0e+1o+2e", "0e+0o+1o+1e+2e+2o"),
    "even only": ("20x0e+9x1e+4x2e", "0e+1e+2e", "0e+1e+2e"),
    "first layer": ("16x0e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "l=3": ("5x0e+8x1o+17x2e+3x3o", "0e+1o+2e+3o", "0e+1o+1e+2e+3o+3e"),
    "l=4": ("2x0e+3x1o+8x2e+1x3o+5x4e", "0e+1o+2e+3o+4e", "0e+1o+2e+3o+4e+4o"),
    "some outputs": ("2x0e+19x1o", "0e+1o+2e", "1e+3o"),
}


def make_plan(name):
    return ConvPlan(*[merge(text) for text in PLANS[name]])


def inputs(plan, num_atoms=7, num_edges=45, dtype=torch.float64, requires_grad=False):
    """Random tensors and unsorted edges; the last two atoms send and receive nothing, row lengths vary."""
    edge_index = torch.randint(0, num_atoms - 2, (2, num_edges))
    sizes = ((num_atoms, plan.irreps_in.dim), (num_edges, plan.irreps_sh.dim), (num_edges, plan.num_weights))
    return [torch.randn(size, dtype=dtype).requires_grad_(requires_grad) for size in sizes], edge_index


def derivatives(function, tensors):
    """Value, first derivatives, and the gradient of a non-linear function of both, as in training on forces."""
    out = function(*tensors)
    first = torch.autograd.grad(out.square().sum(), tensors, create_graph=True)
    loss = sum(gradient.square().sum() for gradient in first) + out.pow(3).sum()
    second = torch.autograd.grad(loss, tensors)
    return {"value": [out], "first derivatives": first, "second derivatives": second}


@every_level
@pytest.mark.parametrize("name", PLANS)
def test_value_and_derivatives_are_those_of_the_reference(name, level, check):
    plan = make_plan(name)
    tables = PlanTables(plan)
    tensors, edges = inputs(plan, requires_grad=True)
    expected = derivatives(lambda *t: reference.tensor_product_conv(*t, edges, plan, tables), tensors)
    found = derivatives(lambda *t: cpu.tensor_product_conv(*t, edges, plan, level=level), tensors)
    for order, values in expected.items():
        for one, other in zip(values, found[order], strict=True):
            check(f"fused convolution = reference, {order}", relative(other, one), 1e-12)


@every_level
@pytest.mark.parametrize("name", PLANS)
def test_float32(name, level, check):
    """Judged by the float64 reference at the same numbers: single precision may only round."""
    plan = make_plan(name)
    tables = PlanTables(plan)
    tensors, edges = inputs(plan, dtype=torch.float32, requires_grad=True)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = derivatives(lambda *t: reference.tensor_product_conv(*t, edges, plan, tables), exact)
    found = derivatives(lambda *t: cpu.tensor_product_conv(*t, edges, plan, level=level), tensors)
    for order, values in expected.items():
        for one, other in zip(values, found[order], strict=True):
            assert other.dtype == torch.float32
            check(f"fused convolution in float32, {order}", relative(other.double(), one), 1e-5)


@pytest.mark.parametrize("name", ["unequal", "some outputs"])
def test_gradcheck(name):
    plan = ConvPlan(*[merge(text) for text in ("2x0e+1x0o+3x1o", *PLANS[name][1:])])
    tensors, edges = inputs(plan, num_atoms=4, num_edges=3, requires_grad=True)

    def convolve(*arguments):
        return cpu.tensor_product_conv(*arguments, edges, plan)

    def forces(*arguments):
        return torch.autograd.grad(convolve(*arguments).square().sum(), arguments, create_graph=True)

    assert torch.autograd.gradcheck(convolve, tensors)
    assert torch.autograd.gradgradcheck(convolve, tensors)
    assert torch.autograd.gradgradcheck(forces, tensors)  # third derivatives


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_derivatives_by_some_inputs_only(wanted, check):
    """Forces need no gradient of the first layer's features; a frozen network none of its weights."""
    plan = make_plan("unequal")
    tables = PlanTables(plan)
    tensors, edges = inputs(plan)
    for k in wanted:
        tensors[k].requires_grad_()

    def second(function):
        out = function(*tensors).square().sum()
        first = torch.autograd.grad(out, [tensors[wanted[0]]], create_graph=True)[0]
        return torch.autograd.grad(first.pow(3).sum(), [tensors[k] for k in wanted])

    expected = second(lambda *t: reference.tensor_product_conv(*t, edges, plan, tables))
    found = second(lambda *t: cpu.tensor_product_conv(*t, edges, plan))
    for one, other in zip(expected, found, strict=True):
        check("fused convolution = reference, some inputs", relative(other, one), 1e-12)


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("openmp", [True, False], ids=["OpenMP", "helpers"])
def test_any_number_of_threads_gives_the_same_bits(openmp):
    plan = make_plan("whole vectors")
    tensors, edges = inputs(plan, num_atoms=60, num_edges=700, dtype=torch.float32, requires_grad=True)
    results = []
    if not openmp:
        LIBRARY.conv_use_openmp(None)
    try:
        for threads in (1, 2, 3, 3):
            torch.set_num_threads(threads)
            found = derivatives(lambda *t: cpu.tensor_product_conv(*t, edges, plan), tensors)
            results.append([tensor for tensors in found.values() for tensor in tensors])
    finally:
        cpu.library.cache_clear()
        cpu.library()  # finds the OpenMP runtime again
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_calls_from_several_threads_do_not_meet():
    plan = make_plan("l=3")
    cases = [inputs(plan, num_edges=30 + 20 * k) for k in range(4)]
    expected = [cpu.tensor_product_conv(*tensors, edges, plan) for tensors, edges in cases]
    wrong = []

    def work(k):
        tensors, edges = cases[k]
        for _ in range(50):
            if not torch.equal(cpu.tensor_product_conv(*tensors, edges, plan), expected[k]):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_order_of_edges_does_not_matter():
    plan = make_plan("unequal")
    tensors, edges = inputs(plan)
    by_centre = torch.argsort(edges[0], stable=True)
    arranged = [tensors[0], tensors[1][by_centre], tensors[2][by_centre]]
    unsorted = cpu.tensor_product_conv(*tensors, edges, plan)
    assert torch.equal(unsorted, cpu.tensor_product_conv(*arranged, edges[:, by_centre], plan))
    assert unsorted[-2:].eq(0).all()  # isolated atoms


def test_tensors_that_are_not_contiguous():
    plan = make_plan("unequal")
    tensors, edges = inputs(plan)
    expected = cpu.tensor_product_conv(*tensors, edges, plan)
    strided = [torch.cat([t, t], dim=1)[:, : t.shape[1]] for t in tensors]
    transposed = [t.T.contiguous().T for t in tensors]
    every_second = torch.stack([edges, edges], dim=2).flatten(1)[:, ::2]
    for views in (strided, transposed):
        assert not any(view.is_contiguous() for view in views)
        assert torch.equal(cpu.tensor_product_conv(*views, every_second, plan), expected)
    ones = torch.ones((), dtype=torch.float64).expand_as(expected)  # what .sum() hands back
    views = [t.requires_grad_() for t in strided]
    gradients = torch.autograd.grad(cpu.tensor_product_conv(*views, edges, plan), views, ones)
    plain = [t.requires_grad_() for t in tensors]
    again = torch.autograd.grad(cpu.tensor_product_conv(*plain, edges, plan), plain, ones.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


@pytest.mark.parametrize("num_atoms", [0, 1, 5])
def test_no_edges(num_atoms):
    plan = make_plan("unequal")
    x = torch.randn(num_atoms, plan.irreps_in.dim, requires_grad=True)
    y, w = torch.zeros(0, plan.irreps_sh.dim), torch.zeros(0, plan.num_weights, requires_grad=True)
    out = cpu.tensor_product_conv(x, y, w, torch.zeros(2, 0, dtype=torch.int64), plan)
    assert out.shape == (num_atoms, plan.irreps_out.dim)
    assert out.eq(0).all()
    dx, dw = torch.autograd.grad(out.sum(), (x, w))
    assert dx.shape == x.shape
    assert dx.eq(0).all()
    assert dw.shape == w.shape


def test_a_plan_without_paths():
    plan = ConvPlan(Irreps("3x1o"), Irreps("0e"), Irreps("0e"))
    tensors, edges = inputs(plan)
    assert cpu.tensor_product_conv(*tensors, edges, plan).shape == (7, 0)


def test_not_a_number_goes_through():
    plan = make_plan("whole vectors")
    tensors, edges = inputs(plan)
    tensors[2][3, 5] = float("nan")
    assert cpu.tensor_product_conv(*tensors, edges, plan)[edges[0, 3]].isnan().any()


@pytest.mark.parametrize(("row", "index"), [(0, 7), (1, 7), (0, -1), (1, -1), (0, 2**40)])
def test_atoms_that_do_not_exist(row, index):
    plan = make_plan("scalars")
    tensors, edges = inputs(plan)
    edges[row, 11] = index
    with pytest.raises(IndexError, match=f"{index}.*keep them from 0 to 6"):
        cpu.tensor_product_conv(*tensors, edges, plan)


@pytest.mark.parametrize(("k", "name"), [(0, "node_features"), (1, "harmonics"), (2, "weights")])
def test_shapes_and_types_that_do_not_fit(k, name):
    plan = make_plan("unequal")
    tensors, edges = inputs(plan)
    wider = [*tensors[:k], torch.cat([tensors[k], tensors[k]], dim=1), *tensors[k + 1 :]]
    with pytest.raises(ValueError, match=name):
        cpu.tensor_product_conv(*wider, edges, plan)
    if k:
        single = [*tensors[:k], tensors[k].float(), *tensors[k + 1 :]]
        with pytest.raises(ValueError, match=f"{name}.*float32.*float64"):
            cpu.tensor_product_conv(*single, edges, plan)


def test_which_kernels_run():
    plan, tables = make_plan("unequal"), PlanTables(make_plan("unequal"))
    tensors, edges = inputs(plan, requires_grad=True)
    assert "_Conv" in str(tensor_product_conv(*tensors, edges, plan, tables).grad_fn)
    with use_backend("reference"):
        assert "_Conv" not in str(tensor_product_conv(*tensors, edges, plan, tables).grad_fn)
    assert dispatch.runs_fused(tensors[0], plan)
    assert not dispatch.runs_fused(tensors[0].half(), plan)
    assert not dispatch.runs_fused(tensors[0].to("meta"), plan)
    assert not dispatch.runs_fused(tensors[0], ConvPlan(Irreps("2x5o"), Irreps("0e"), Irreps("5o")))


def test_harmonics_of_higher_degree_than_any_path_takes():
    """The kernels' buffers end at l = 4: harmonics of l = 5 would lie behind them, though no path reads them."""
    plan = ConvPlan(Irreps("2x0e+2x1o"), Irreps.spherical_harmonics(7), Irreps("0e+1o"))
    tensors, edges = inputs(plan)
    assert max(path.harmonic.l for path in plan.paths) == 2
    assert not dispatch.runs_fused(tensors[0], plan)
    assert torch.isfinite(tensor_product_conv(*tensors, edges, plan, PlanTables(plan))).all()


@pytest.mark.parametrize("why", ["absent", "built from other sources"])
def test_without_the_library_one_warning_and_the_reference(monkeypatch, tmp_path, why):
    if why == "absent":
        monkeypatch.setattr(cpu, "LIBRARY", tmp_path / "_conv.so")
    else:
        for header in cpu.CSRC.glob("*.h"):
            (tmp_path / header.name).write_text(header.read_text() + "// a field more")
        monkeypatch.setattr(cpu, "CSRC", tmp_path)
    cpu.library.cache_clear()
    try:
        plan = make_plan("scalars")
        tensors, edges = inputs(plan)
        with pytest.warns(RuntimeWarning, match="no compiled kernels.*reinstall") as caught:
            found = tensor_product_conv(*tensors, edges, plan, PlanTables(plan))
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not dispatch.runs_fused(tensors[0], make_plan("unequal"))
        assert torch.equal(found, reference.tensor_product_conv(*tensors, edges, plan, PlanTables(plan)))
        with pytest.raises(ValueError, match="no fused kernels"):
            cpu.tensor_product_conv(*tensors, edges, plan)
    finally:
        cpu.library.cache_clear()


def test_plans_are_copied_pickled_and_freed():
    plan = make_plan("l=3")
    tensors, edges = inputs(plan)
    expected = cpu.tensor_product_conv(*tensors, edges, plan)
    for other in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert torch.equal(cpu.tensor_product_conv(*tensors, edges, other), expected)
    fused = weakref.ref(cpu.fused_plan(plan))
    del plan
    gc.collect()
    assert fused() is None


def test_potential_and_its_training_gradient(small_potential, check):
    """Energy, forces and the gradient of a loss on forces by the parameters, fused and by definition."""
    potential = copy.deepcopy(small_potential).requires_grad_(True)
    graph = atoms_to_graph(molecule("CH3CH2OH"), potential.cutoff)

    def results():
        prediction = potential(graph, forces=True, create_graph=True)
        loss = prediction["energy"].sum() + prediction["forces"].square().sum()
        parameters = [p for p in potential.network.parameters() if p.requires_grad]
        return [prediction["energy"], prediction["forces"], *torch.autograd.grad(loss, parameters)]

    found = results()
    with use_backend("reference"):
        expected = results()
    for one, other in zip(expected, found, strict=True):
        check("network with fused convolution = with reference", relative(other, one), 1e-10)
