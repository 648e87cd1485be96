"""Splits: disjoint, complete, and decided by the seed alone."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from emt_data import emt_atoms

from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.splits import make_splits


def test_drawn_parts_are_disjoint_and_of_the_right_size(emt_file):
    splits = make_splits(DataConfig(train=str(emt_file), validation=0.25, test=2))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (7, 3, 2)
    assert sorted(k for part in splits.indices.values() for k in part) == list(range(12))


def test_the_seed_decides(emt_file):
    draws = [make_splits(DataConfig(train=str(emt_file), validation=4, split_seed=s)).indices for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_explicit_indices(emt_file):
    config = DataConfig(train=str(emt_file), train_indices=(5, 1), validation_indices=(0,), num_train=None)
    splits = make_splits(config)
    assert splits.indices == {"train": [5, 1], "validation": [0]}
    with pytest.raises(DataError, match=r"holds 12, but the files have 12 structures \(0 to 11\)"):
        make_splits(DataConfig(train=str(emt_file), train_indices=(12,)))


@pytest.mark.parametrize(("key", "part"), [("num_train", "train"), ("validation", "validation"), ("test", "test")])
def test_a_number_beside_indices_is_refused(key, part):
    with pytest.raises(ValueError, match=f"{key} = 3 and {part}_indices cannot be combined"):
        DataConfig(train="a.xyz", **{key: 3, f"{part}_indices": (0, 1)})
    resolved = DataConfig(train="a.xyz", **{f"{part}_indices": (0, 1)})
    assert DataConfig.parse(resolved.model_dump(mode="json")) == resolved


def test_test_structures_by_their_notes(emt_file):
    frames = read(emt_file, ":")
    for k, atoms in enumerate(frames):
        atoms.info["file"] = f"test-{k}.xml" if k % 5 == 0 else f"train-{k}.xml"
    write(emt_file, frames)
    splits = make_splits(DataConfig(train=str(emt_file), validation=2, test_where={"file": "test*"}))
    assert splits.indices["test"] == [0, 5, 10]
    assert sorted(k for part in splits.indices.values() for k in part) == list(range(12))
    with pytest.raises(DataError, match=r"no structure has data.test_where \(file = 'x\*'\) in its notes: .*file"):
        make_splits(DataConfig(train=str(emt_file), test_where={"file": "x*"}))
    with pytest.raises(ValueError, match="test_where and test cannot be combined"):
        DataConfig(train=str(emt_file), test=3, test_where={"file": "test*"})
    both = DataConfig(train=str(emt_file), validation_indices=(1, 5, 10), test_where={"file": "test*"})
    with pytest.raises(DataError, match=r"test_where takes structure 5 .*validation_indices has too \(2 in all\)"):
        make_splits(both)
    apart = make_splits(both.model_copy(update={"validation_indices": (1, 2)}))
    assert (apart.indices["test"], apart.indices["validation"]) == ([0, 5, 10], [1, 2])


def test_explicit_training_leaves_the_rest_for_the_draw(emt_file):
    splits = make_splits(DataConfig(train=str(emt_file), train_indices=(0, 1, 2), validation=5))
    assert not set(splits.indices["validation"]) & {0, 1, 2}


def test_num_train_is_a_part_of_the_larger_draw(emt_file):
    few = make_splits(DataConfig(train=str(emt_file), validation=4, num_train=3)).indices
    many = make_splits(DataConfig(train=str(emt_file), validation=4)).indices
    assert few["validation"] == many["validation"]
    assert set(few["train"]) < set(many["train"])


def test_a_draw_from_each_file(emt_file, tmp_path):
    other = tmp_path / "other.xyz"
    write(other, emt_atoms(6, seed=1))
    config = DataConfig(train=(str(emt_file), str(other)), validation=2, test=0.25, from_each_file=True)
    indices = make_splits(config).indices
    counts = {part: (sum(k < 12 for k in found), sum(k >= 12 for k in found)) for part, found in indices.items()}
    assert counts == {"train": (7, 2), "validation": (2, 2), "test": (3, 2)}
    assert sorted(k for found in indices.values() for k in found) == list(range(18))
    assert make_splits(config).indices == indices
    with pytest.raises(DataError, match="asks for 7 structures, 6 are left"):
        make_splits(config.model_copy(update={"test": 7}))


def test_separate_files(emt_file, tmp_path):
    write(tmp_path / "v.xyz", emt_atoms(3, seed=1))
    splits = make_splits(
        DataConfig(train=str(emt_file), validation=str(tmp_path / "v.xyz"), test=(str(tmp_path / "v.xyz"),))
    )
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 3, 3)
    with pytest.raises(DataError, match="keep one of them"):
        make_splits(DataConfig(train=str(emt_file), validation=str(tmp_path / "v.xyz"), validation_indices=(0,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 13}, "asks for 13 structures, 12 are left"),
        ({"validation": 12}, "no structures are left for training"),
        ({"validation": 4, "num_train": 9}, "8 structures are left"),
    ],
)
def test_too_few_structures(emt_file, options, message):
    with pytest.raises(DataError, match=message):
        make_splits(DataConfig(train=str(emt_file), **options))


def test_files_of_lone_atoms_need_energies_only(tmp_path):
    lone, frames = Atoms("Cu", positions=np.zeros((1, 3)), info={"REF_energy": -1.0}), emt_atoms(4)
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
    write(tmp_path / "lone.xyz", lone)
    write(tmp_path / "a.xyz", frames)
    names = {"energy_key": "REF_energy", "forces_key": "REF_forces", "isolated_atoms": str(tmp_path / "lone.xyz")}
    splits = make_splits(DataConfig(train=str(tmp_path / "a.xyz"), validation=1, references="isolated_atoms", **names))
    assert [frame.energy for frame in splits.isolated_atoms] == [-1.0]
    with pytest.raises(ValueError, match="set that, or leave out the file"):
        DataConfig(train="a.xyz", **names)


def test_lone_atoms_are_put_aside(tmp_path):
    lone = Atoms("Cu", positions=np.zeros((1, 3)))
    lone.calc = SinglePointCalculator(lone, energy=-1.0)
    write(tmp_path / "a.xyz", [lone, *emt_atoms(4)])
    splits = make_splits(DataConfig(train=str(tmp_path / "a.xyz"), validation=1, references="isolated_atoms"))
    assert [frame.energy for frame in splits.isolated_atoms] == [-1.0]
    assert len(splits.train) == 3
