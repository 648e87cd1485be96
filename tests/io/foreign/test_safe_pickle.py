"""Foreign archives are data: whatever their pickles name, nothing of it is imported or run."""

import io
import math
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.foreign.importing import convert_file, importer_of
from ase_equivariant.io.foreign.safe_pickle import Record, UnsafePickleError, read_pickle
from ase_equivariant.io.foreign.torch_archive import TorchArchive

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
    """Python's own loader falls for each of them; ours makes records of them, or says what they want."""
    mark = tmp_path / "mark"
    path = saved(tmp_path, attacks(mark)[name])
    with suppress(UnsafePickleError):
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
    with pytest.raises(ForeignModelError, match=r"asks for \w+\.system, which no model needs"):
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


def peak_of(read):
    """Largest memory (bytes) that ``read()`` takes, and what it gives or the refusal."""
    tracemalloc.start()
    try:
        found = read()
    except UnsafePickleError as error:
        found = error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, found


def test_a_pickle_cannot_ask_for_gigabytes():
    """A reference numbered 2³⁰ makes Python's unpickler lay out 8 GiB for the numbers below it."""
    peak, found = peak_of(lambda: read_pickle(b"\x80\x02]r\x00\x00\x00\x40.", {}))
    assert found == []
    assert peak < 1 << 20


def test_containers_made_of_one_another_stay_as_small_as_the_pickle():
    """10⁵ sets of the same 10⁵ numbers are 10¹⁰ references: 40 GiB from a pickle of one megabyte."""
    count = 100_000
    numbers = b"]q\x00(" + b"".join(b"J" + struct.pack("<i", k) for k in range(count)) + b"e"
    content = b"\x80\x02" + numbers + b"(" + b"cbuiltins\nset\nh\x00\x85R" * count + b"l."
    peak, found = peak_of(lambda: read_pickle(content, {}))
    assert isinstance(found, UnsafePickleError)
    assert "more elements than it has bytes" in str(found)
    assert peak < 256 << 20


def test_compressed_and_repeated_entries_are_no_longer_than_files_are(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t/data.pkl", b"\x80\x02]" + b"]0" * (40 << 20) + b".")
    peak, found = peak_of(lambda: loaded(path))
    assert "far longer than its file" in str(found)
    assert peak < 8 << 20


def test_tensors_that_share_numbers_cannot_ask_for_any_memory(tmp_path):
    """A column of 1000 numbers as 1000 × 1000 matrices: nothing until someone adds them."""
    matrix = torch.arange(1000.0).unsqueeze(1).expand(1000, 1000)
    assert torch.equal(loaded(saved(tmp_path, [matrix]))[0], matrix)
    path = saved(tmp_path, [matrix[:, :999], matrix[:999], matrix])
    with pytest.raises(UnsafePickleError, match="more numbers than the file can hold"):
        loaded(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_out_as_python_reads_them(protocol):
    shared = [1.5, "ä\n'"]
    value = {
        "numbers": [0, -1, 255, 65536, -(2**31), 2**40, -(2**70), 2**3000, 1e-300, math.inf, True, False, None],
        "texts": ["", "ab", "x" * 300, "y" * 70_000, "\u2026\U0001f600", b"", b"raw\xff", b"z" * 300],
        ("a", 1): (shared, shared, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "sets": [{1, 2}, set(), frozenset({3}), slice(1, None, 2)],
        "ordered": OrderedDict([(k, [k]) for k in range(2000)]),
        3: {k: str(k) for k in range(1500)},
    }
    if protocol < 3:  # bytes are texts with a call then, which makes a record
        value["texts"] = value["texts"][:5]
    found = read_pickle(pickle.dumps(value, protocol), {})
    expected = pickle.loads(pickle.dumps(value, protocol))
    assert found == expected
    assert found["a", 1][0] is found["a", 1][1]
    assert [type(x) for x in found["numbers"]] == [type(x) for x in expected["numbers"]]


def test_a_list_that_holds_itself_is_read():
    value = []
    value.append(value)
    found = read_pickle(pickle.dumps(value), {})
    assert found[0] is found


def test_damaged_pickles_are_refused_with_one_line_whatever_is_damaged():
    """Bytes of a real pickle replaced at random: it is read or refused, nothing else is raised and nothing called."""
    with zipfile.ZipFile(GOLDEN / "sevennet_tiny_species.pth") as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    random, refusals = np.random.default_rng(0), []
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        try:
            read_pickle(bytes(damaged), {}, lambda reference: None)
        except UnsafePickleError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert not any("\n" in message for message in refusals)
    for end in range(0, len(content), 97):
        with pytest.raises(UnsafePickleError):
            read_pickle(content[:end], {}, lambda reference: None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0.", "damaged"),
        (b"(.", "damaged"),
        (b"K\x01\x86.", "takes more values than it has made"),
        (b"K\x01)R.", "calls a int with a tuple"),
        (b"ccollections\nOrderedDict\n]R.", "calls a OrderedDict|calls a Named with a list"),
        (b"ccollections\nOrderedDict\n}q\x00b.", "changes a Named"),
        (b"]K\x01b.", "changes a list"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"Pstorage\n.", "opcode PERSID"),
        (b"K\x01Q.", "stored elsewhere"),
        (b"}]K\x01s.", "a key of type list"),
        (b"ctorch\n" + b"x" * 600 + b"\n.", "a name longer than any"),
        (b"K\x01", "damaged"),
    ],
)
def test_what_data_do_not_need_is_refused(content, words):
    with pytest.raises(UnsafePickleError, match=words):
        read_pickle(content, {})


def test_files_of_other_kinds_are_named(tmp_path):
    """What people have instead of a checkpoint, and what to do about it."""
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "program.pth", "w") as archive:  # as torch.jit.save arranges it
        archive.writestr("program/data.pkl", b"\x80\x02c__torch__\nModel\n)\x81.")
        archive.writestr("program/code/__torch__.py", "class Model(Module):\n  pass\n")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({}, 2))
    (tmp_path / "short.pth").write_bytes((GOLDEN / "sevennet_tiny_species.pth").read_bytes()[:-100])
    for name, words in {
        "old": "PyTorch's format before version 1.6, save it anew",
        "program": "a compiled program, convert the checkpoint",
        "bare": "a bare pickle",
        "short": "truncated, get it anew",
    }.items():
        with pytest.raises(ForeignModelError, match=words) as error:
            convert_file(tmp_path / f"{name}.pth")
        assert "\n" not in str(error.value)


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
from ase_equivariant.io.foreign.torch_archive import TorchArchive
with TorchArchive(Path({str(tmp_path / "t.pth")!r})) as archive:
    print(archive.load())
assert "turtle" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "<record of turtle.Turtle>", done.stderr
