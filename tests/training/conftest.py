import pytest
from ase.io import write
from emt_data import emt_atoms


@pytest.fixture(scope="session")
def emt_file(tmp_path_factory):
    """An extxyz file of 12 labelled crystals."""
    path = tmp_path_factory.mktemp("data") / "emt.xyz"
    write(path, emt_atoms())
    return path
