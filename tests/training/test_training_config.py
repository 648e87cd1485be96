"""Configurations: checked as a whole before any data is read, with errors that help."""

import pytest
from emt_data import SMALL

from ase_equivariant.config import ConfigError
from ase_equivariant.training.config import TrainConfig, load_config

MINIMAL = """
[data]
train = "missing.xyz"
[model.architecture]
cutoff = 4.0
"""


def write_config(tmp_path, text=MINIMAL):
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_minimal_config_does_not_touch_the_data(tmp_path):
    config = load_config(write_config(tmp_path))
    assert config.species_from_data
    assert config.data.train == "missing.xyz"
    assert str(config.folder) == "runs/model"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=0.1", "optimizer.lrr: unknown key; did you mean 'lr'?"),
        ("model.architecture.lmax=2", "did you mean 'l_max'?"),
        ("run.lr=3", "run.lr: unknown key; did you mean 'optimizer.lr'?"),
        ("run.weight_decay=3", "did you mean 'optimizer.weight_decay'?"),  # not 'ema_decay', which is beside it
        ("run.lrr=3", "did you mean 'optimizer.lr'?"),
        ("optimizer.learning_rate=3", "optimizer.learning_rate: unknown key; did you mean 'lr'?"),
        ("data.learning_rate=3", "did you mean 'optimizer.lr'?"),
        ("lr=3", "lr: unknown key; did you mean 'optimizer.lr'?"),
        ("model.l_max=3", "did you mean 'model.architecture.l_max'?"),
        ("data.name=x", "data.name: unknown key; valid keys are "),  # several sections have one
        ("optimizer.forces=x", "optimizer.forces: unknown key; did you mean 'loss.forces'?"),
        ("optimzer.lr=0.1", "did you mean 'optimizer'?"),
        ("loss.force.weight=1", "did you mean 'forces'?"),
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0"),
        ("optimizer.name=sgd", "optimizer.name"),
        ("run.batch_size=0", "run.batch_size"),
        ("run.name=a/b", "run.name"),
        ("data.references={Xx=1.0}", "not a chemical symbol: Xx"),
        ("data.train_indices=[0, 1, 1]", "listed twice"),
        ("data.train_indices=[-1]", "count from 0"),
        ('data.train=["a.xyz", "b.xyz", "a.xyz"]', "train names a.xyz twice"),
        ('data={train="a.xyz", validation=["b.xyz", "a.xyz"]}', "validation names a.xyz, which train has too"),
        ('data={train="a.xyz", test="./b/../a.xyz"}', "test names ./b/../a.xyz, which train has too"),
        ("data.validation_indices=[]", "data: validation_indices is empty: list a structure"),
        ("loss={energy={weight=0}, forces={weight=0}}", "every weight of the loss is zero: give one of loss.energy"),
        ("model.architecture.pair_cutoffs={Cu={Cu=3}}", "pair_cutoffs goes by species: give model.architecture"),
        ("model.architecture=gvp", 'is a table: write [model.architecture] with name = "gvp" and a cutoff'),
        ("model.architecture.neighbors_per_species={H=10}", "neighbors_per_species goes by species: give model.arch"),
        ("optimizer.lr", "write section.key=value"),
        ("optimizer.lr.x.y=3", "optimizer"),
        ("run.max_minutes=nan", "run.max_minutes"),
        ("data.validation=0", "data.validation: Input should be greater than or equal to 1, or greater than 0 (got 0)"),
        ("data.train=3", "data.train: Input should be a valid string, or a valid tuple (got 3)"),
        ('data.train=["a.xyz", 3]', "data.train.1: Input should be a valid string (got 3)"),
        ("data.references={Cu='x'}", "data.references.Cu: Input should be a valid number, unable to parse string as"),
        ("model.readouts={kind='dipole'}", "model.readouts: there may be several: write [[model.readouts]], in double"),
        (
            "model.readouts=[{kin='dipole'}]",
            "model.readouts.0: 'kind' is missing: it is one of dipole, polarizability, ",
        ),
        ("data.scale=-1.0", "data.scale: Input should be 'forces_rms', 'forces_rms_per_species' or 'none', or greater"),
        ("run.device=mps", "run.device: energies are summed in float64, which MPS does not have"),
        ("run.device=cdua", "run.device: Input should be 'cpu', 'cuda' or 'auto'"),
        ("run={early_stopping_epochs=2, validate_every=5}", "early_stopping_epochs = 2 is less than validate_every"),
    ],
)
def test_errors_say_where_and_what(tmp_path, override, message):
    with pytest.raises(ConfigError) as error:
        load_config(write_config(tmp_path), [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_architecture_is_validated_when_the_data_has_filled_it_in(tmp_path):
    by_species = ("model.architecture.species=['Cu']", "model.architecture.neighbors_per_species={Cu=10}")
    config = load_config(write_config(tmp_path), by_species)
    assert config.with_architecture(avg_num_neighbors=9.0).model.architecture.avg_num_neighbors == 9.0
    with pytest.raises(ConfigError, match="neighbors_per_species needs one number for each of Cu, Au"):
        config.with_architecture(species=("Cu", "Au"))


def test_every_fault_is_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_config(write_config(tmp_path), ["optimizer.lr=0", "run.sed=1", "data.validation=1.5"])
    assert {line.split(":")[0].split(".")[0] for line in str(error.value).splitlines()} == {"optimizer", "run", "data"}


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="not a TOML file"):
        load_config(write_config(tmp_path, "data = ["))
    with pytest.raises(ConfigError, match=r"is a folder: name the training configuration \(TOML\) in it$"):
        load_config(tmp_path)


def test_overrides(tmp_path):
    config = load_config(
        write_config(tmp_path),
        [
            "optimizer.lr=0.25",
            "data.train=other file.xyz",
            'data.validation=["a.xyz", "b.xyz"]',
            "schedule.name=linear",
        ],
    )
    assert config.optimizer.lr == 0.25
    assert config.data.train == "other file.xyz"
    assert config.data.validation == ("a.xyz", "b.xyz")
    assert config.schedule.name == "linear"


def test_dumped_config_parses_to_the_same():
    values = {
        "data": {"train": "a.xyz", "validation": 0.2},
        "model": {"architecture": {**SMALL, "species": ["H", "O"]}},
    }
    config = TrainConfig.parse(values)
    again = TrainConfig.parse(config.model_dump(mode="json"))
    assert again == config
    assert again.fingerprint() == config.fingerprint()


def test_fingerprint_changes_with_what_moves_the_weights_only(tmp_path):
    path = write_config(tmp_path)
    base = load_config(path).fingerprint()
    for same in ("run.max_minutes=3", "run.folder=x", "run.tensorboard=true", "card.description=x"):
        assert load_config(path, [same]).fingerprint() == base
    for other in ("run.seed=1", "optimizer.lr=0.1", "run.max_epochs=5", "loss.forces.weight=3", "model.zbl=true"):
        assert load_config(path, [other]).fingerprint() != base


def test_run_may_be_prolonged_if_the_schedule_allows(tmp_path):
    path = write_config(tmp_path)
    for free in ("schedule.name=constant", "schedule.epochs=100"):
        shorter, longer = (load_config(path, [free, f"run.max_epochs={n}"]) for n in (10, 20))
        assert shorter.fingerprint() == longer.fingerprint()


@pytest.mark.parametrize("name", ["ethanol", "ethanol-gvp", "si"])
def test_shipped_configurations_parse(name, request):
    config = load_config(request.config.rootpath / "models" / "configs" / f"{name}.toml")
    assert config.run.name == name
