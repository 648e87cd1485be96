"""Energies, forces and stress of Nequix's own code in float64; run it where ``nequix`` is installed.

``python tests/golden/make_nequix.py MODEL.nqx OUTPUT.npz``

Structures that are periodic in some directions only are left out (NaN): Nequix takes them for molecules.
"""

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress
from nequix.data import atomic_numbers_to_indices, dict_to_graphstuple, preprocess_graph
from nequix.model import load_model


def next_power(count, least):
    return max(least, 1 << (int(count) - 1).bit_length())


if __name__ == "__main__":
    model, config = load_model(sys.argv[1])  # float32 on disk, and refused otherwise
    jax.config.update("jax_enable_x64", True)
    model = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, model)
    evaluate, indices = eqx.filter_jit(model), atomic_numbers_to_indices(config["atomic_numbers"])
    frames = read(Path(__file__).with_name("structures.extxyz"), ":")
    energy, forces, stress = [], [], []
    for atoms in frames:
        n = len(atoms)
        energy.append(np.nan)
        forces.append(np.full((n, 3), np.nan))
        stress.append(np.full(6, np.nan))
        if atoms.pbc.any() and not atoms.pbc.all():
            continue
        given = preprocess_graph(atoms, indices, config["cutoff"], False)
        given |= {"positions": atoms.positions, "shifts": given["shifts"].astype(float)}
        given["cell"] = atoms.cell.array if atoms.pbc.all() else None
        graph = dict_to_graphstuple(given)
        graph = jraph.pad_with_graphs(
            graph, n_node=next_power(n + 1, 16), n_edge=next_power(graph.n_edge[0] + 1, 64), n_graph=2
        )
        e, f, s = evaluate(graph)
        assert e.dtype == f.dtype == jnp.float64
        energy[-1], forces[-1] = float(e[0]), np.array(f)[:n]
        if atoms.pbc.all():
            stress[-1] = full_3x3_to_voigt_6_stress(np.array(s[0]))
    np.savez_compressed(
        sys.argv[2], energy=energy, forces=np.concatenate(forces), stress=stress, made_with="nequix 0.4.2"
    )
    largest = np.nanmax(np.abs(np.concatenate(forces)))
    print(f"{sys.argv[2]}: {np.isfinite(energy).sum()} structures, largest force {largest:.3g} eV/Å")
