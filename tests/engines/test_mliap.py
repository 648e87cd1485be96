"""ML-IAP's wrapper with data that stand for LAMMPS': processes are threads, ghosts are found by tag."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from lammps_cases import CUTOFF, SPECIES, potential
from typer.testing import CliRunner

from ase_equivariant import Potential, PotentialConfig
from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.cli.main import app
from ase_equivariant.engines.mliap import EquivariantMLIAP, write_mliap
from ase_equivariant.engines.network_image import MAGIC
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.neighbors import neighbor_list
from ase_equivariant.io.model_file import ModelCard, save_model
from ase_equivariant.kernels import network as native


class Processes:
    """What is exchanged between them; every call waits for all."""

    def __init__(self, count):
        self.barrier, self.count = threading.Barrier(count, timeout=60), count
        self.data = []

    def exchange(self, mine, rows, out, gradients):
        mine.rows, mine.out = rows.numpy(), out.numpy()
        self.barrier.wait()
        mine.out[:] = 0
        mine.out[: mine.nlocal] = mine.rows[: mine.nlocal]
        if gradients:
            for other in self.data:
                for ghost in range(other.nlocal, other.ntotal):
                    if (owned := np.flatnonzero(mine.tags[: mine.nlocal] == other.tags[ghost])).size:
                        mine.out[owned[0]] += other.rows[ghost]
        else:
            for ghost in range(mine.nlocal, mine.ntotal):
                owner, row = self.owner[mine.tags[ghost]]
                mine.out[ghost] = owner.rows[row]
        self.barrier.wait()


class Data:
    """One process's part as LAMMPS shows it. Arrays of nothing are None, as in the host build."""

    def __init__(self, processes, atoms, owner, rank, order):
        n = len(atoms)
        edges, _, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
        local = np.flatnonzero(owner == rank)
        row = {(int(atom), (0, 0, 0)): k for k, atom in enumerate(local)}
        pair_i, pair_j, vectors = [], [], []
        for (i, j), shift in zip(edges.T, np.asarray(shifts).astype(int), strict=True):
            if owner[i] != rank:
                continue
            key = (int(j), tuple(int(s) for s in shift))
            pair_i.append(row[int(i), (0, 0, 0)])
            pair_j.append(row.setdefault(key, len(row)))
            vectors.append(atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i])
        mixed = order.permutation(len(pair_i))  # LAMMPS promises no order
        self.tags = np.array([atom for atom, _ in row], dtype=int)
        self.nlocal, self.ntotal, self.npairs, self.n = len(local), len(row), len(pair_i), n
        kinds = np.array([SPECIES.index(symbol) for symbol in atoms.symbols])
        self.elems = kinds[self.tags].astype(np.int32) if row else None
        self.pair_i = np.array(pair_i, dtype=np.int32)[mixed] if pair_i else None
        self.pair_j = np.array(pair_j, dtype=np.int32)[mixed] if pair_i else None
        self.rij = np.array(vectors)[mixed] if pair_i else None
        self.eatoms = np.zeros(self.nlocal) if self.nlocal else None
        self.energy, self.forces, self.processes = 0.0, np.zeros((n, 3)), processes

    def forward_exchange(self, rows, out, width):
        assert width <= 6, "LAMMPS' buffers on CPUs end here, and nobody checks"
        assert rows.shape == out.shape == (self.ntotal, width)
        self.processes.exchange(self, rows, out, gradients=False)

    def reverse_exchange(self, rows, out, width):
        assert width <= 3, "LAMMPS' buffers on CPUs end here, and nobody checks"
        assert rows.shape == out.shape == (self.ntotal, width)
        self.processes.exchange(self, rows, out, gradients=True)

    def update_pair_forces(self, gradients):
        np.add.at(self.forces, self.tags[self.pair_i], gradients)
        np.add.at(self.forces, self.tags[self.pair_j], -gradients)


def crystal():
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    atoms.rattle(0.1, seed=4)
    return atoms


def run(model, atoms, owner, count):
    processes, order = Processes(count), np.random.default_rng(1)
    processes.data = [Data(processes, atoms, owner, rank, order) for rank in range(count)]
    processes.owner = {tag: (data, k) for data in processes.data for k, tag in enumerate(data.tags[: data.nlocal])}
    wrappers = [EquivariantMLIAP(pickle.loads(pickle.dumps(model)), torch.float64) for _ in range(count)]
    errors = []

    def work(rank):
        try:
            wrappers[rank].compute_forces(processes.data[rank])
        except BaseException as error:
            errors.append(error)
            processes.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return processes.data


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["nequip", "gvp"])
@pytest.mark.parametrize("structure", ["crystal", "water"])
def test_energies_and_forces_are_the_models(structure, name, count, check):
    atoms = crystal() if structure == "crystal" else molecule("H2O")
    model = potential(name)
    expected = model(atoms_to_graph(atoms, CUTOFF), forces=True)
    owner = np.arange(len(atoms)) * min(count, 2) // len(atoms)  # of three processes one is empty
    parts = run(model, atoms, owner, count)
    energies = np.zeros(len(atoms))
    for data in parts:
        if data.nlocal:
            energies[data.tags[: data.nlocal]] = data.eatoms
    check("ML-IAP: energy (eV)", abs(sum(data.energy for data in parts) - float(expected["energy"])), 1e-12)
    check("ML-IAP: energies (eV)", np.abs(energies - expected["node_energies"].numpy()).max(), 1e-12)
    forces = sum(data.forces for data in parts)
    check("ML-IAP: forces (eV/Å)", np.abs(forces - expected["forces"].numpy()).max(), 1e-12)
    if count == 3:
        assert parts[2].nlocal == parts[2].npairs == 0


class WithoutKokkos:
    """Data of a build without Kokkos: no exchange, and energies of atoms can only be written."""

    def __init__(self, data):
        self.__dict__.update({k: v for k, v in vars(data).items() if k not in ("processes", "eatoms")})
        self.update_pair_forces = data.update_pair_forces

    def __setattr__(self, name, value):
        self.__dict__["written" if name == "eatoms" else name] = value


def test_a_build_without_exchange_is_refused_before_it_gives_wrong_forces():
    """Without ghosts, too: another process may have some, and would wait."""
    for atoms in (crystal(), molecule("H2O")):
        data = run(potential("nequip"), atoms, np.zeros(len(atoms), int), 1)[0]
        with pytest.raises(RuntimeError, match="build it with Kokkos"):
            EquivariantMLIAP(potential("nequip")).compute_forces(WithoutKokkos(data))


def test_one_layer_needs_no_exchange(check):
    torch.manual_seed(1)
    network = NequIPConfig(
        species=SPECIES, cutoff=CUTOFF, num_layers=1, avg_num_neighbors=12.0, irreps_hidden="8x0e", l_max=1
    )
    model = Potential(PotentialConfig(architecture=network)).requires_grad_(False)
    whole = run(model, crystal(), np.zeros(8, int), 1)[0]
    expected = whole.forces.copy()
    whole.forces[:] = 0
    EquivariantMLIAP(model, torch.float64).compute_forces(data := WithoutKokkos(whole))
    check("ML-IAP without exchange: forces (eV/Å)", np.abs(whole.forces - expected).max(), 1e-13)
    check("ML-IAP without exchange: energies of atoms (eV)", np.abs(data.written - whole.eatoms).max(), 1e-13)


def test_the_file_is_what_lammps_loads(tmp_path):
    write_mliap(tmp_path / "model.pkl", potential("nequip"))
    loaded = pickle.loads((tmp_path / "model.pkl").read_bytes())
    assert loaded.element_types == list(SPECIES)
    assert loaded.rcutfac == CUTOFF / 2
    assert loaded.potential.dtype == torch.float32
    assert (loaded.ndescriptors, loaded.nparams) == (1, 1)


def test_the_commands_write_what_lammps_reads(tmp_path, monkeypatch):
    source = tmp_path / "salt.safetensors"
    config = NequIPConfig(species=("Cl", "Na"), cutoff=4.0, num_layers=2, irreps_hidden="4x0e+4x1o", l_max=1)
    save_model(source, Potential(PotentialConfig(architecture=config)), ModelCard(name="salt"))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert "salt.mliap.pkl 0" in runner.invoke(app, ["lammps", "mliap", str(source)], catch_exceptions=False).output
    assert pickle.loads((tmp_path / "salt.mliap.pkl").read_bytes()).element_types == ["Cl", "Na"]
    again = runner.invoke(app, ["lammps", "mliap", str(source)])
    assert "--overwrite" in str(again.exception)
    if native.best_level() >= 0:
        runner.invoke(app, ["lammps", "export", str(source), "--level", "baseline"], catch_exceptions=False)
        assert (tmp_path / "salt.network").read_bytes().startswith(MAGIC)
    for words, wrong in ((["--dtype", "half"], "choose 'float32'"), (["--level", "sse"], "choose baseline")):
        assert wrong in str(runner.invoke(app, ["lammps", "export", str(source), *words]).exception)
