"""How a batch is divided among processes."""

import numpy as np
import pytest
import torch
from emt_data import emt_frames, small_config

from ase_equivariant.config import ConfigError
from ase_equivariant.training.dataset import make_samples
from ase_equivariant.training.loader import EpochLoader
from ase_equivariant.training.sharing import divide


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_every_item_has_one_part_and_sums_are_close(parts):
    rng = np.random.default_rng(parts)
    costs = (1000 * rng.pareto(1.5, size=40)).astype(int).tolist()
    taken = divide(costs, parts)
    assert sorted(k for items in taken for k in items) == list(range(40))
    loads = [sum(costs[k] for k in items) for items in taken]
    assert max(loads) <= 4 / 3 * max(sum(costs) / parts, max(costs))  # Graham's bound
    assert all(items == sorted(items) for items in taken)


def test_no_part_is_empty_even_if_nothing_costs_anything():
    assert [len(items) for items in divide([7, 0, 0, 0, 0], 4)] == [1, 2, 1, 1]
    assert divide([3, 5], 3) == [[1], [0], []]


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("skip", [0, 1])
def test_shares_of_all_processes_are_the_batch_of_one(world_size, skip):
    samples = make_samples(emt_frames(13), 3.5, torch.float64)
    replay = make_samples(emt_frames(6, seed=1), 3.5, torch.float64)
    whole = EpochLoader(samples, 6, seed=3, replay=replay, replay_fraction=1 / 3)
    parts = [EpochLoader(samples, 6, 3, rank, world_size, replay, 1 / 3) for rank in range(world_size)]
    for loader in (whole, *parts):
        loader.epoch, loader.skip = 2, skip
        assert loader.batches_per_epoch == 4
    shares = [list(part) for part in parts]
    batches = list(whole)
    assert all(len(share) == len(batches) == 4 - skip for share in shares)
    for batch, *mine in zip(batches, *shares, strict=True):
        labelled = torch.cat([part.energy[part.has_energy] for part in mine])
        assert sorted(labelled.tolist()) == sorted(batch.energy.tolist())
        assert sum(int(part.has_forces.sum()) for part in mine) == len(batch.forces)
        # The last batch has 1 + 2 structures: of five processes two have nothing to learn from.
        idle = [part for part in mine if not part.has_energy.any()]
        assert len(idle) == max(0, world_size - batch.graph.num_structures)
        assert not any(part.has_forces.any() or part.has_stress.any() for part in idle)


def test_a_batch_smaller_than_the_number_of_processes_is_refused(emt_file, tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size = 4 .* 6 processes: make it 6 or more, or lower devices"):
        small_config(emt_file, tmp_path, run={"devices": 3, "num_nodes": 2})


def test_the_number_of_processes_does_not_decide_whether_a_run_may_go_on(emt_file, tmp_path):
    one, four = (
        small_config(emt_file, tmp_path, run=values).fingerprint() for values in ({}, {"devices": 2, "num_nodes": 2})
    )
    assert one == four
