"""Irreps mean what they mean to e3nn, in text, order, product and regrouping; slips are refused."""

from __future__ import annotations

import copy
import pickle

import pytest
from e3nn import o3
from hypothesis import given
from hypothesis import strategies as st

from ase_equivariant.irreps import Irrep, Irreps, merge

LABELS = st.tuples(st.integers(0, 12), st.sampled_from([1, -1]))
PAIRS = st.lists(st.tuples(st.integers(0, 200), LABELS), max_size=8)


@given(LABELS, LABELS)
def test_an_irrep_is_that_of_e3nn(a, b):
    ours, theirs = Irrep(*a), o3.Irrep(*a)
    assert ours == theirs == Irrep(str(theirs)) == o3.Irrep(ours)
    assert (str(ours), ours.l, ours.p, ours.dim) == (str(theirs), theirs.l, theirs.p, theirs.dim)
    assert list(ours * Irrep(b)) == list(theirs * o3.Irrep(*b))
    assert (ours < Irrep(b)) == (theirs < o3.Irrep(*b))
    assert hash(ours) == hash(theirs)


@given(PAIRS)
def test_irreps_are_those_of_e3nn(pairs):
    ours, theirs = Irreps(pairs), o3.Irreps(pairs)
    assert str(ours) == str(theirs)
    assert (ours.dim, len(ours)) == (theirs.dim, len(theirs))
    assert o3.Irreps(ours) == theirs
    assert Irreps(theirs) == ours == Irreps(str(ours))
    assert hash(Irreps(theirs)) == hash(ours)
    assert str(merge(ours)) == str(theirs.regroup())
    assert [ours.count(ir) for ir in ("0e", "1o", "3e")] == [theirs.count(ir) for ir in ("0e", "1o", "3e")]
    assert [ir in ours for ir in ("0e", "1o", "3e")] == [theirs.count(ir) > 0 for ir in ("0e", "1o", "3e")]
    if ours.dim:
        assert ours.lmax == theirs.lmax
    assert str(ours + Irreps("2x1o")) == str(theirs + o3.Irreps("2x1o"))


@pytest.mark.parametrize("text", ["0e", "1y+2y", " 3x0e + 1x1o ", "16 x 0e+8x 2e", "10x10o", "", "0e+0e"])
def test_text_is_read_as_e3nn_reads_it(text):
    assert str(Irreps(text)) == str(o3.Irreps(text))


@pytest.mark.parametrize("p", [1, -1])
def test_harmonics(p):
    assert str(Irreps.spherical_harmonics(4, p)) == str(o3.Irreps.spherical_harmonics(4, p))


@pytest.mark.parametrize("slip", ["nonsense", "3x", "x0e", "0e,1o", "0e+", "-1x0e", "2x1z", "1.5x0e", "0e 1o", "1²o"])
def test_slips_are_refused(slip):
    with pytest.raises(ValueError, match="is not irreps in e3nn's notation, such as '32x0e"):
        Irreps(slip)


def test_impossible_irreps_are_refused():
    for make in (lambda: Irrep(-1, 1), lambda: Irrep(1, 0), lambda: Irrep(1), lambda: Irrep(1.5, 1)):
        with pytest.raises(ValueError, match="there is no irrep with l ="):
            make()
    with pytest.raises(ValueError, match="'1x1o' is not an irrep"):
        Irrep("1x1o")
    for mul in (-1, 1.0):
        with pytest.raises(ValueError, match="there cannot be"):
            Irreps([(mul, "0e")])
    with pytest.raises(ValueError, match="no highest degree"):
        _ = Irreps("").lmax


def test_they_are_values():
    irreps = Irreps("3x0e+2x1o")
    assert copy.deepcopy(irreps) == pickle.loads(pickle.dumps(irreps)) == irreps
    assert pickle.loads(pickle.dumps(Irrep("1o"))) == Irrep("1o")
    assert irreps != Irreps("2x1o+3x0e")
    assert irreps != "3x0e+2x1o"
