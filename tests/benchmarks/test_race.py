"""The harness of scripts/benchmark.py, with ourselves as the peer."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from line_up import python_of
from race import Runner, race, table
from systems import system


def test_two_of_us_take_turns(capsys):
    runners = [Runner(label, "ours", "ethanol", sys.executable, tuned) for label, tuned in (("a", False), ("b", True))]
    race(runners, ["ethanol"], threads=1, rounds=2, seconds_each=0.01)
    for runner in runners:
        assert runner.atoms == {"ethanol": 9}
        assert len(runner.seconds["ethanol"]) >= 2
        assert runner.process.returncode is not None
    lines = table(runners, ["ethanol"]).splitlines()
    assert lines[2].startswith("| ethanol | a |")
    assert " | 1.0 | " in lines[2]


def test_systems_are_what_they_are_called():
    sizes = {"ethanol": 9, "aspirin": 21, "water64": 192, "si64": 64, "si512": 512, "cu500": 500}
    assert {name: len(system(name)) for name in sizes} == sizes
    with pytest.raises(ValueError, match="no system called 'xyz'"):
        system("xyz")


def test_a_missing_environment_is_named():
    with pytest.raises(SystemExit, match=r"no environment for nobody in .*: run bash scripts/bench_envs\.sh nobody"):
        python_of("nobody")
