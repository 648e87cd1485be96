"""Where the model comes into a LAMMPS input."""

from __future__ import annotations

import pytest

from ase_equivariant.cli.lammps import split_script

SCRIPT = """units metal
pair_style equivariant  # from --model
read_data x.data
  pair_coeff * * Na Cl # types 1 and 2
run 5
"""


def test_the_model_s_lines_are_taken_out(tmp_path):
    path = tmp_path / "in.lammps"
    path.write_text(SCRIPT)
    head, types, rest = split_script(path)
    assert head == "units metal\n\nread_data x.data\n"
    assert types == ("Na", "Cl")
    assert rest == "\nrun 5\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pair_style equivariant", "pair_style lj/cut 3", "has no `pair_style equivariant`: write"),
        ("pair_style equivariant", "# pair_style equivariant", "has no `pair_style equivariant`: write"),
        ("pair_coeff * * Na Cl", "pair_coeff * *", "has no `pair_coeff"),
    ],
)
def test_an_input_without_them_is_refused(old, new, message, tmp_path):
    path = tmp_path / "in.lammps"
    path.write_text(SCRIPT.replace(old, new))
    with pytest.raises(ValueError, match=message):
        split_script(path)


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        split_script(tmp_path / "in.lammps")
