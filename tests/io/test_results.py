"""Results as JSON."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms

from ase_equivariant.io.results import plain, write_json


@dataclass(frozen=True)
class Result:
    r_A: np.ndarray
    frames: list
    stable: bool


def test_what_is_written_is_read_by_anything(tmp_path):
    result = Result(np.array([[1.0, np.inf], [np.pi, 0.0]]), [Atoms("H")], np.bool_(True))
    content = {"name": "Γ", "result": result, "num": np.int64(3), "pair": (1, 2), "atoms": Atoms("H"), "no": None}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "name": "Γ",
        "result": {"r_A": [[1.0, None], [3.141592654, 0.0]], "stable": True},
        "num": 3,
        "pair": [1, 2],
        "no": None,
    }
    assert "Γ" in text
    assert "[[1.0, null], [3.141592654, 0.0]]" in text  # arrays stay on a line


def test_what_json_has_no_type_for_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert plain({"empty": {}}) == {"empty": {}}
