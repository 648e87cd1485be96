"""A process that trained together with others has none of their threads when it ends."""

import gc
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from ase_equivariant.training.processes import part_from_others

THREADS_OF_GROUPS = ("gloo", "pt_gloo", "pt_tcpstore")


def group_threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name.startswith(THREADS_OF_GROUPS)]


def train_in_a_group(folder):
    """As Lightning does: join, train, and stay."""
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    network = DistributedDataParallel(torch.nn.Linear(3, 1))
    network.cycle = network
    network(torch.ones(2, 3)).sum().backward()
    assert group_threads()


@pytest.mark.parametrize("error", [None, ValueError])
def test_its_threads_end_with_the_run(tmp_path, error):
    def run():
        with part_from_others():
            train_in_a_group(tmp_path)
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert not torch.distributed.is_initialized()
    gc.collect()  # as the process does at its end
    assert group_threads() == []


def test_a_group_of_the_user_stays(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        with part_from_others():
            pass
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()
