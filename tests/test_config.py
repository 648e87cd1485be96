"""Configurations say what is wrong, with the nearest valid key, before anything is built."""

from __future__ import annotations

import pytest
from pydantic import model_validator

from ase_equivariant.architectures import GVPConfig, NequIPConfig
from ase_equivariant.config import Config, ConfigError
from ase_equivariant.potential.potential import PotentialConfig

GOOD = {"species": ["H", "O"], "cutoff": 4.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**GOOD, "cutof": 3.0}, "cutof: unknown key; did you mean 'cutoff'?"),
        ({**GOOD, "irreps_hiden": "4x0e"}, "irreps_hiden: unknown key; did you mean 'irreps_hidden'?"),
        ({"cutoff": 4.0}, "species: this key is required and missing"),
        ({**GOOD, "cutoff": -1.0}, "cutoff: Input should be greater than 0 (got -1.0)"),
        ({**GOOD, "cutoff": float("nan")}, "cutoff: Input should be"),
        ({**GOOD, "cutoff": float("inf")}, "cutoff: Input should be a finite number (got inf)"),
        ({**GOOD, "species": []}, "species: "),
        ({**GOOD, "species": ["H", "Xx"]}, "not a chemical symbol: Xx"),
        ({**GOOD, "species": ["H", "X"]}, "not a chemical symbol: X"),
        ({**GOOD, "species": ["H", "H"]}, "a chemical symbol appears twice"),
        ({**GOOD, "irreps_hidden": "4x0e+"}, "'4x0e+' is not irreps in e3nn's notation, such as '32x0e+32x1o'"),
        ({**GOOD, "irreps_hidden": "4y0e"}, "is not irreps"),
        ({**GOOD, "irreps_hidden": ""}, "has no even scalars (0e)"),
        ({**GOOD, "irreps_hidden": "4x1o"}, "'4x1o' has no even scalars (0e), which every layer needs"),
        ({**GOOD, "irreps_hidden": ["4x0e"], "num_layers": 2}, "irreps_hidden lists 1 layers but num_layers is 2"),
        ({**GOOD, "parity": False}, "parity = false needs even irreps only (such as '32x0e+32x1e'); found odd ones"),
        ({**GOOD, "cutoff_function": "xplor"}, "cutoff_function = 'xplor' needs xplor_onset below the cutoff"),
        ({**GOOD, "cutoff_function": "xplor", "xplor_onset": 4.0}, "needs xplor_onset below the cutoff"),
        (
            {**GOOD, "cutoff_function": "cosine"},
            "cutoff_function: Input should be 'polynomial' or 'xplor'",
        ),
        ({**GOOD, "num_layers": 0}, "num_layers: Input should be greater than or equal to 1 (got 0)"),
        ({**GOOD, "l_max": 12}, "l_max: Input should be less than or equal to 11 (got 12)"),
        ({**GOOD, "radial_hidden": [8, 0]}, "radial_hidden.1: Input should be greater than or equal to 1 (got 0)"),
        ({**GOOD, "pair_cutoffs": {"He": {"He": 2.0}}}, "pair_cutoffs names He, which is not among the species"),
        ({**GOOD, "pair_cutoffs": {"H": {"H": 9.0}}}, "pair_cutoffs has 9.0 Å for H, above the cutoff of"),
        ({**GOOD, "neighbors_per_species": {"He": 2.0}}, "neighbors_per_species needs one number for each of"),
        ({**GOOD, "cutoff": True}, "NequIPConfig: cutoff should be a number (got true)"),
        ({**GOOD, "radial_hidden": [8, True]}, "NequIPConfig: radial_hidden should have numbers only (got true)"),
        (
            {**GOOD, "pair_cutoffs": {"H": {"H": True}}},
            "NequIPConfig: pair_cutoffs should have numbers only (got true)",
        ),
        ({**GOOD, "avg_num_neighbors": False}, "NequIPConfig: avg_num_neighbors should be a number (got false)"),
        ({**GOOD, "avg_num_neighbors": 0.0}, "avg_num_neighbors: Input should be greater than 0 (got 0.0)"),
    ],
)
def test_network_errors(values, message):
    with pytest.raises(ConfigError) as caught:
        NequIPConfig.parse(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "gvp", "num_scalrs": 3}, "architecture.num_scalrs: unknown key; did you mean 'num_scalars'?"),
        ({"name": "gvp", "l_max": 3}, "architecture.l_max: unknown key; valid keys are avg_num_neighbors, cutoff, "),
        ({"name": "gvp", "num_vectors": 0}, "architecture.num_vectors: Input should be greater than or equal to 1"),
        ({"name": "gvp", "smoothing": 0.0}, "architecture.smoothing: Input should be greater than 0 (got 0.0)"),
        ({"name": "gvp", "species": ["Xx"]}, "architecture.species: not a chemical symbol: Xx"),
        ({"name": "gpv"}, "architecture.name: Input should be 'nequip' or 'gvp' (got 'gpv')"),
        ({"smoothing": 3}, "architecture.smoothing: unknown key; valid keys are "),
        ({"name": "nequip", "l_maxx": 2}, "architecture.l_maxx: unknown key; did you mean 'l_max'?"),
    ],
)
def test_errors_of_the_named_architecture(values, message):
    with pytest.raises(ConfigError) as caught:
        PotentialConfig.parse({"architecture": {**GOOD, **values}})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_name_decides_the_architecture():
    for name, kind in (("gvp", GVPConfig), ("nequip", NequIPConfig)):
        config = PotentialConfig.parse({"architecture": {**GOOD, "name": name}})
        assert type(config.architecture) is kind
        assert PotentialConfig.parse(config.model_dump(mode="json")) == config
    assert type(PotentialConfig.parse({"architecture": GOOD}).architecture) is NequIPConfig


def test_every_fault_has_its_line():
    with pytest.raises(ConfigError) as caught:
        NequIPConfig.parse({"species": ["H"], "cutof": 4.0, "num_layers": -1})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert {line.split(":")[0] for line in lines} == {"cutoff", "cutof", "num_layers"}


def test_nested_key_hints_come_from_the_nested_configuration():
    with pytest.raises(ConfigError, match=r"architecture\.num_layer: unknown key; did you mean 'num_layers'\?"):
        PotentialConfig.parse({"architecture": {**GOOD, "num_layer": 2}})


def test_far_off_key_lists_the_valid_ones():
    with pytest.raises(ConfigError, match="qqq: unknown key; valid keys are architecture, readout_hidden, readouts"):
        PotentialConfig.parse({"architecture": GOOD, "qqq": 1})


def test_resolved_configuration_comes_back_from_json():
    config = PotentialConfig.parse({"architecture": {**GOOD, "irreps_hidden": ["4x0e+4x1o", "4x0e"], "num_layers": 2}})
    assert PotentialConfig.parse(config.model_dump(mode="json")) == config


def test_configurations_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        NequIPConfig.parse(GOOD).cutoff = 3.0


class Inner(Config):
    alpha: int = 1


class Outer(Config):
    one: Inner | None = None
    many: tuple[Inner, ...] = ()


def test_hints_inside_optional_and_repeated_configurations():
    with pytest.raises(ConfigError, match=r"one\.alhpa: unknown key; did you mean 'alpha'\?"):
        Outer.parse({"one": {"alhpa": 2}})
    with pytest.raises(ConfigError, match=r"many\.1\.alhpa: unknown key; did you mean 'alpha'\?"):
        Outer.parse({"many": [{}, {"alhpa": 2}]})


def test_a_fault_of_several_keys_is_one_short_line():
    """It is of the whole configuration, which would hide the message; values are as long as anyone reads."""

    class Range(Config):
        low: float
        high: float
        words: tuple[str, ...] = ()

        @model_validator(mode="after")
        def _in_order(self):
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    with pytest.raises(ConfigError) as error:
        Range.parse({"low": 2, "high": 1, "words": ["x"] * 1000})
    assert str(error.value) == "Range: low is above high"
    with pytest.raises(ConfigError) as error:
        Range.parse({"low": "9" * 5000 + "a", "high": 1})
    assert len(str(error.value)) < 300
