"""Sets larger than memory: read from databases, the same as if held."""

import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write
from emt_data import emt_atoms, emt_frames, small_config
from process_runs import finish, same_run, start, write_config
from test_run import CountingClock
from typer.testing import CliRunner

from ase_equivariant.cli.main import app
from ase_equivariant.io.model_file import load_model
from ase_equivariant.training import callbacks
from ase_equivariant.training.checkpoint import CheckpointError
from ase_equivariant.training.database import write_database
from ase_equivariant.training.dataset import make_samples, mean_neighbors
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import DataError, read_frames
from ase_equivariant.training.run import train
from ase_equivariant.training.streaming import StreamedFrames, ahead, pick_frames

ENDINGS = (".db", ".aselmdb")


def assert_same(a, b):
    assert a.atoms == b.atoms
    for name in ("energy", "forces", "stress"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None)
        assert one is None or np.abs(one - other).max() < 1e-14
    assert set(a.readouts) == set(b.readouts)
    for name in a.readouts:
        assert np.abs(a.readouts[name].values - b.readouts[name].values).max() < 1e-14
        assert a.readouts[name].per_atom == b.readouts[name].per_atom


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_are_those_of_the_file(tmp_path, ending):
    path = tmp_path / f"emt{ending}"
    assert write_database(path, emt_frames(7)) == 7
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    frames = StreamedFrames(path, LabelConfig())
    assert len(frames) == 7
    for streamed, held, original in zip(frames, read_frames(path), emt_frames(7), strict=True):
        assert_same(streamed, held)
        assert_same(streamed, original)
    assert_same(frames[-1], emt_frames(7)[-1])
    assert [len(frame.atoms) for frame in frames[2:5]] == [4, 4, 4]
    with pytest.raises(IndexError):
        frames[7]


def test_rows_that_were_deleted_are_passed_over(tmp_path):
    write_database(tmp_path / "emt.db", emt_frames(5))
    connect(tmp_path / "emt.db").delete([2])
    frames = StreamedFrames(tmp_path / "emt.db", LabelConfig())
    assert len(frames) == 4
    assert_same(frames[1], emt_frames(5)[2])


def test_picking_from_several_files(tmp_path):
    for k, count in enumerate((3, 1, 4)):
        write_database(tmp_path / f"{k}.db", emt_frames(count, seed=k))
    sources = [StreamedFrames(tmp_path / f"{k}.db", LabelConfig()) for k in range(3)]
    everything = [frame for source in sources for frame in source]
    for picked, k in zip(pick_frames(sources, [7, 0, 3, 4, 2]), (7, 0, 3, 4, 2), strict=True):
        assert_same(picked, everything[k])


def ion():
    atoms = molecule("OH")
    atoms.positions += [3.0, -1.0, 2.0]
    atoms.info["charge"] = -1
    readouts = {
        "dipole": Label(np.array([0.1, 0.2, -0.3]), per_atom=False),
        "polarizability": Label(np.diag([0.3, 0.2, 0.1]), per_atom=False),
        "charges": Label(np.array([-1.2, 0.2]), per_atom=True),
        "born_effective_charges": Label(np.arange(18.0).reshape(2, 3, 3), per_atom=True),
    }
    return Frame(atoms, energy=-1.0, readouts=readouts)


@pytest.mark.parametrize("ending", ENDINGS)
def test_readouts_survive_a_database(tmp_path, ending):
    """The dipole of an ion about the centre of mass, too, which files have about the origin."""
    write_database(tmp_path / f"ion{ending}", [ion()])
    keys = {
        "polarizability_key": "polarizability",
        "readout_keys": {"born_effective_charges": "born_effective_charges"},
    }
    (frame,) = StreamedFrames(tmp_path / f"ion{ending}", LabelConfig.parse(keys))
    assert frame.atoms.info["charge"] == -1
    assert_same(frame, ion())


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_streamed_run_is_the_same_as_one_from_memory(tmp_path, ending):
    write_database(tmp_path / f"emt{ending}", emt_frames(14))
    found = []
    for streaming in (False, True):
        config = small_config(
            tmp_path / f"emt{ending}", tmp_path / f"run-{streaming}", data={"test": 2, "streaming": streaming}
        )
        result = train(config, quiet=True)
        found.append((load_model(result.model_file), result.evaluations["test"].errors()))
    (held, held_errors), (streamed, streamed_errors) = found
    assert streamed_errors == held_errors
    for name, value in held.potential.state_dict().items():
        assert torch.equal(value, streamed.potential.state_dict()[name]), name
    assert streamed.card.reference_energies == held.card.reference_energies


def test_a_streamed_run_goes_on_but_not_with_other_data(tmp_path, monkeypatch):
    write_database(tmp_path / "emt.db", emt_frames(12))

    def config(folder, minutes=None):
        run = {"max_epochs": 6, "max_minutes": minutes, "checkpoint_minutes": 0}
        return small_config(tmp_path / "emt.db", tmp_path / folder, data={"streaming": True}, run=run)

    whole, launches, part = train(config("whole"), quiet=True), 0, None
    monkeypatch.setattr(callbacks, "time", CountingClock())
    while part is None or part.stopped:
        part = train(config("parts", minutes=0.12), quiet=True)
        launches += 1
        assert launches < 100
    assert launches > 1
    expected, found = (load_model(run.model_file).potential.state_dict() for run in (whole, part))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    write_database(tmp_path / "emt.db", emt_frames(12, seed=1))
    with pytest.raises(CheckpointError):
        train(config("parts"), quiet=True)


def test_processes_share_streamed_batches(tmp_path):
    """Two processes, each of which reads only its structures, end where one does that holds all."""
    config, database = write_config(tmp_path), tmp_path / "uneven.db"
    write_database(database, read_frames(tmp_path / "uneven.xyz"))
    for name, options in (("one", ()), ("two", ("data.streaming=true", "run.devices=2"))):
        finish(start(config, f"data.train={database}", f"run.folder={tmp_path / name}", *options))
    assert same_run(tmp_path / "two", tmp_path / "one") < 1e-12


def test_mean_neighbours_go_through_all(tmp_path):
    write_database(tmp_path / "emt.db", emt_frames(5))
    samples = make_samples(StreamedFrames(tmp_path / "emt.db", LabelConfig()), 3.5, torch.float32)
    held = make_samples(emt_frames(5), 3.5, torch.float32)
    assert mean_neighbors(samples) == mean_neighbors(held)


PROGRAM = r"""
    import re, sys, torch
    from pathlib import Path
    from ase_equivariant.training.build import build_start
    from ase_equivariant.training.config import TrainConfig
    from ase_equivariant.training.loader import EpochLoader
    from ase_equivariant.training.splits import make_splits

    network = {"cutoff": 6.0, "num_layers": 1, "l_max": 0, "irreps_hidden": "2x0e"}
    data = {"train": sys.argv[1], "validation": 1, "streaming": sys.argv[2] == "streamed"}
    config = TrainConfig.parse({"data": data, "model": {"architecture": network}})
    samples = build_start(config, make_splits(config.data)).samples
    atoms = sum(batch.graph.num_atoms for batch in EpochLoader(samples, 5, seed=0))
    print(atoms, int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def peak_megabytes(path, how):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), how]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(out[0]), float(out[1])


def test_memory_does_not_grow_with_the_set(tmp_path, check):
    """Nine times as many structures, up to a whole epoch: held, they take what they take; streamed, not much."""
    crystal = bulk("Cu", cubic=True).repeat(3)
    frames = [Frame(crystal, 0.0, np.zeros((108, 3))) for _ in range(360)]
    write_database(tmp_path / "small.db", frames[:40])
    write_database(tmp_path / "large.db", frames)
    peaks = {}
    for name, count in (("small", 40), ("large", 360)):
        for how in ("held", "streamed"):
            atoms, peaks[name, how] = peak_megabytes(tmp_path / f"{name}.db", how)
            assert atoms == 108 * (count - 1)
    held, streamed = (peaks["large", how] - peaks["small", how] for how in ("held", "streamed"))
    assert held > 80
    check("MB more for 320 more structures of 108 atoms, streamed", streamed, 20)


def test_batches_come_ahead_in_order_and_with_their_errors():
    def failing():
        yield from range(5)
        raise DataError("the sixth is broken")

    got = []
    with pytest.raises(DataError, match="the sixth is broken"):
        got.extend(ahead(failing()))
    assert list(ahead(iter(range(20)))) == list(range(20))
    taken, before = [], threading.active_count()
    stopped = ahead(taken.append(k) or k for k in range(1000))
    assert [next(stopped), next(stopped)] == [0, 1]
    assert threading.active_count() == before + 1
    stopped.close()
    assert threading.active_count() == before
    assert len(taken) <= 4, "two were taken, and two are ahead"


def test_what_cannot_be_streamed_is_refused(tmp_path, emt_file):
    with pytest.raises(DataError, match=r"emt.xyz: data.streaming reads databases \(.db, .aselmdb\)"):
        StreamedFrames(emt_file, LabelConfig())
    with pytest.raises(DataError, match="no such file"):
        StreamedFrames(tmp_path / "absent.db", LabelConfig())
    for ending in ENDINGS:
        (tmp_path / f"broken{ending}").write_text("this is no database" * 100)
        with pytest.raises(DataError, match=rf"broken{ending}: ASE cannot read it"):
            StreamedFrames(tmp_path / f"broken{ending}", LabelConfig())
    write_database(tmp_path / "emt.db", emt_frames(3))
    with pytest.raises(DataError, match="energy_key = 'E' is in no structure"):
        StreamedFrames(tmp_path / "emt.db", LabelConfig(energy_key="E"))
    for units in (
        {"units": "kcal/mol"}, {"length_units": "Bohr"}, {"dipole_units": "Debye"}, {"dipole_origin": "mass"},
        {"polarizability_units": "au"},
    ):  # fmt: skip
        [(key, value)] = units.items()
        for read in (StreamedFrames, read_frames):
            with pytest.raises(DataError, match=rf"is in eV and Å .*: leave {key} = '{value}' out of \[data\]"):
                read(tmp_path / "emt.db", LabelConfig.parse(units))
    assert len(read_frames(tmp_path / "emt.db", LabelConfig(units="eV"))) == 3


def test_a_label_that_one_of_many_structures_has_is_found(tmp_path):
    frames = [replace(frame, stress=None) for frame in emt_frames(300)]
    frames[151] = emt_frames(300)[151]
    write_database(tmp_path / "emt.db", frames)
    found = StreamedFrames(tmp_path / "emt.db", LabelConfig(stress_key="stress"))
    assert [k for k, frame in enumerate(found) if frame.stress is not None] == [151]


def test_a_database_is_whole_or_absent(tmp_path):
    path = tmp_path / "data.db"
    with pytest.raises(DataError, match="no structures to write"):
        write_database(path, [])
    with pytest.raises(DataError, match="labels spin cannot be kept"):
        write_database(path, [*emt_frames(2), Frame(molecule("OH"), readouts={"spin": Label(np.ones(1), False)})])
    with pytest.raises(DataError, match=r"let it end in \.db or \.aselmdb"):
        write_database(tmp_path / "data.xyz", emt_frames(1))
    assert not list(tmp_path.iterdir())


def test_convert_as_a_user_types_it(tmp_path):
    """Other units and names in, ASE's out."""
    structures = emt_atoms(4)
    for atoms in structures:
        energy, forces = atoms.get_potential_energy() * 23.060547830619026, atoms.get_forces() * 23.060547830619026
        atoms.calc = SinglePointCalculator(atoms)
        atoms.info["E"], atoms.arrays["F"], atoms.info["source"] = energy, forces, "made here"
        atoms.info["charge"] = -1  # a whole number of numpy's, once ASE has read it
    write(tmp_path / "data.xyz", structures)
    arguments = ["data", "convert", str(tmp_path / "data.xyz"), "--output", str(tmp_path / "data.db")]
    units = ["--units", "kcal/mol", "--energy-key", "E", "--forces-key", "F"]
    result = CliRunner().invoke(app, [*arguments, *units])
    assert result.exit_code == 0, result.output
    assert "wrote 4 structures" in result.output
    for frame, original in zip(read_frames(tmp_path / "data.db"), emt_frames(4), strict=True):
        assert abs(frame.energy - original.energy) < 1e-6
        assert np.abs(frame.forces - original.forces).max() < 1e-6
        assert frame.atoms.info == {"source": "made here", "charge": -1}
    wrong = CliRunner().invoke(app, [*arguments, "--overwrite", "--energy-key", "energies"])
    assert "energy_key = 'energies' is in no structure; there are E, source, charge, F" in str(wrong.exception)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code != 0
    assert "exists: replace it with --overwrite" in str(again.exception)
