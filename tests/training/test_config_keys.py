"""The list of all keys: complete, explained, and a configuration once what is required is given."""

from typer.testing import CliRunner

from ase_equivariant.cli.main import app
from ase_equivariant.training.config import TrainConfig, load_config
from ase_equivariant.training.config_keys import config_keys


def test_every_key_is_explained():
    keys = {key.name: key for key in config_keys()}
    assert all(key.kind and key.meaning for key in keys.values())
    assert keys["loss.stress.weight"].default == 0.0  # of the section, not of its class
    assert keys["model.architecture.num_scalars"].of == 'name = "gvp"'
    assert keys["model.architecture.cutoff"].of == ""
    assert not keys["finetune.replay.fraction"].always
    assert "model.readouts[].value" in keys
    assert "loss.readouts.NAME.weight" in keys


def test_the_printed_list_is_the_default_configuration(tmp_path):
    result = CliRunner().invoke(app, ["train", "--keys"])
    assert result.exit_code == 0
    path, required = tmp_path / "all.toml", ["data.train=a.xyz", "model.architecture.cutoff=4"]
    path.write_text(result.output, encoding="utf-8")
    expected = TrainConfig.parse({"data": {"train": "a.xyz"}, "model": {"architecture": {"cutoff": 4}}})
    assert load_config(path, required) == expected
