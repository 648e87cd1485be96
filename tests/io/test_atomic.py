"""Files that are whole or absent."""

from __future__ import annotations

import pytest

from ase_equivariant.io.atomic import atomic_path


def test_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "deep" / "file.csv"
    with atomic_path(target) as temporary:
        temporary.write_text("content")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        assert not target.exists()
    assert target.read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "file.csv"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
