"""Foreign archives are data: whatever their pickles name, nothing of it is imported or run."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.foreign.importing import convert_file, importer_of
from ase_equivariant.io.foreign.safe_pickle import Record, TorchArchive, UnsafePickleError

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden"


def saved(tmp_path, content):
    torch.save(content, tmp_path / "content.pth")
    return tmp_path / "content.pth"


def loaded(path):
    with TorchArchive(path) as archive:
        return archive.load()


def test_tensors_and_containers_come_as_they_were(tmp_path):
    big = torch.arange(12.0).reshape(3, 4)
    content = {
        "transposed": big.T,
        "row": big[1],
        "same": big,
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.float64)),
        "ints": torch.tensor([[1, 2]]),
        "empty": torch.zeros(0, 3),
        "odict": OrderedDict(a=1, b=[2.5, None, True, "text"]),
        "set": {1, 2},
        "size": torch.Size([2, 3]),
    }
    found = loaded(saved(tmp_path, content))
    for name in ("transposed", "row", "same", "parameter", "ints", "empty"):
        assert torch.equal(found[name], content[name])
        assert found[name].dtype == content[name].dtype
    assert found["odict"] == content["odict"]
    assert found["set"] == {1, 2}
    assert tuple(found["size"]) == (2, 3)


def test_foreign_classes_become_records(tmp_path):
    found = loaded(saved(tmp_path, {"module": torch.nn.Linear(2, 1), "array": np.arange(3), "kind": torch.float32}))
    assert isinstance(found["module"], Record)
    assert found["module"].name == "torch.nn.modules.linear.Linear"
    assert torch.is_tensor(found["module"].state["_parameters"]["weight"])
    assert isinstance(found["array"], Record)


class Attack:
    """Unpickled by Python, calls ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(mark):
    command = f"touch {mark}"
    return {
        "os.system": Attack(os.system, command),
        "subprocess": Attack(subprocess.check_call, ["touch", str(mark)]),
        "eval": Attack(eval, f"open({str(mark)!r}, 'w').close()"),
        "Path.touch": Attack(Path.touch, mark),
        "nested": {"config": [OrderedDict(x=Attack(os.system, command))]},
    }


@pytest.mark.parametrize("name", list(attacks("x")))
def test_a_malicious_pickle_does_nothing(tmp_path, name):
    """Python's own loader falls for each of them; ours makes records of them."""
    mark = tmp_path / "mark"
    path = saved(tmp_path, attacks(mark)[name])
    with suppress(UnsafePickleError):  # calling a record is refused
        loaded(path)
    assert not mark.exists()
    assert importer_of(path) is None
    torch.load(path, weights_only=False)
    assert mark.exists(), "the attack does not work at all: the test proves nothing"


def test_a_malicious_checkpoint_that_looks_like_sevennets_is_refused(tmp_path):
    mark = tmp_path / "mark"
    checkpoint = torch.load(GOLDEN / "sevennet_tiny_species.pth", weights_only=False)
    checkpoint["config"]["_type_map"] = Attack(os.system, f"touch {mark}")
    path = saved(tmp_path, checkpoint)
    assert importer_of(path) is not None
    with pytest.raises(ForeignModelError):
        convert_file(path)
    assert not mark.exists()


def test_the_older_format_which_is_a_bare_pickle_is_refused(tmp_path):
    mark = tmp_path / "mark"
    torch.save({"a": Attack(os.system, f"touch {mark}")}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafePickleError, match="not a zip archive"):
        loaded(tmp_path / "old.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Attack(os.system, f"touch {mark}")))
    assert importer_of(tmp_path / "bare.pth") is None
    assert not mark.exists()


def rewritten(path, change):
    """The archive with entries changed by ``change(name, bytes)``."""
    target = path.with_name(f"changed{len(list(path.parent.iterdir()))}.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return target


def test_damage_and_lies_are_refused_with_one_line(tmp_path):
    path = saved(tmp_path, {"x": torch.arange(4.0)})
    cases = {
        "damaged": rewritten(path, lambda name, data: data[:-3] if name.endswith("data.pkl") else data),
        "not 4 numbers": rewritten(path, lambda name, data: data[:8] if name.endswith("data/0") else data),
        "little-endian": rewritten(path, lambda name, data: b"big" if name.endswith("byteorder") else data),
    }
    for words, changed in cases.items():
        with pytest.raises(UnsafePickleError, match=words) as error:
            loaded(changed)
        assert "\n" not in str(error.value)


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(tmp_path):
    """As a pickle can claim, to read memory that is not its own or to ask for terabytes."""
    path = saved(tmp_path, {"x": torch.arange(4.0)})
    original = zipfile.ZipFile(path).read("content/data.pkl")
    assert b"K\x04\x85" in original  # the shape (4,)
    for shape in (b"K\x05\x85", b"J\xff\xff\xff\x7f\x85"):
        lying = rewritten(
            path,
            lambda name, data, shape=shape: data.replace(b"K\x04\x85", shape) if name.endswith("data.pkl") else data,
        )
        with pytest.raises(UnsafePickleError, match="does not lie within its 4 numbers"):
            loaded(lying)


def test_a_pickle_that_asks_for_gigabytes_is_refused(tmp_path):
    """A reference numbered 2³⁰ makes Python's unpickler lay out 8 GiB for the numbers below it."""
    with zipfile.ZipFile(tmp_path / "t.pth", "w") as archive:
        archive.writestr("t/data.pkl", b"\x80\x02]r\x00\x00\x00\x40.")
    with pytest.raises(UnsafePickleError, match="object number 1073741824"):
        loaded(tmp_path / "t.pth")


def test_reading_imports_nothing(tmp_path):
    """A class of a package that is importable is not imported for a file's sake."""

    class Named(pickle.Pickler):
        def reducer_override(self, obj):
            return NotImplemented

    stream = io.BytesIO()
    Named(stream, protocol=2).dump({"version": 1})
    program = b"cturtle\nTurtle\n)\x81."  # turtle.Turtle.__new__
    with zipfile.ZipFile(tmp_path / "t.pth", "w") as archive:
        archive.writestr("t/data.pkl", program)
    code = f"""
import sys
from pathlib import Path
from ase_equivariant.io.foreign.safe_pickle import TorchArchive
with TorchArchive(Path({str(tmp_path / "t.pth")!r})) as archive:
    print(archive.load())
assert "turtle" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "<record of turtle.Turtle>", done.stderr
