"""What a training run is: one TOML file, validated as a whole before any data is read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ase_equivariant.config import Config, ConfigError
from ase_equivariant.io.model_file import read_header
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential.potential import PotentialConfig
from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.finetune_config import FinetuneConfig
from ase_equivariant.training.fit_config import LossConfig, OptimizerConfig, ScheduleConfig
from ase_equivariant.training.labels import ADDED_LABELS, LabelConfig
from ase_equivariant.training.numbers import Count, NonNegative, Positive

# Placeholder where the species are left to the data, so that the rest can be validated without it.
_ANY_SPECIES = ["H"]
# Keys of architectures that name species, which the placeholder cannot stand for.
_BY_SPECIES = ("pair_cutoffs", "neighbors_per_species")
# What may change when a killed run continues: nothing that moves the weights.
_FREE_TO_CHANGE = {
    "run": ("max_minutes", "threads", "checkpoint_minutes", "tensorboard", "folder", "name", "num_nodes"),
    "finetune": ("elements",),
}
# Keys that came later, at the values that stand for how it was before.
_ADDED_LABELS = {**{key: LabelConfig.model_fields[key].default for key in ADDED_LABELS}, "readout_keys": {}}
_ADDED: dict[str, dict[str, Any]] = {
    "model": {"readouts": []},
    "loss": {"readouts": {}},
    "data": {**_ADDED_LABELS, "from_each_file": False, "streaming": False},
    "replay": _ADDED_LABELS,
}


class RunConfig(Config):
    """The run itself.

    Attributes
    ----------
    name : str
        Name of the model.
    folder : str or None
        Where everything is written; default ``runs/NAME``. Relative to the current directory.
    seed : int
        Of the first weights and of the order of structures.
    dtype : {"float32", "float64"}
        Of the network; energies are summed in float64 always.
    device : {"cpu", "cuda", "auto"}
        "auto" is "cuda" where PyTorch finds a GPU for it, else "cpu".
    devices : int
        Processes on each machine, one GPU each where there are GPUs. Together they share every batch and
        change nothing but the time it takes; a run may go on with another number of them.
    num_nodes : int
        Machines. With more than one, each process is started by Slurm or torchrun.
    threads : int or None
        Threads of each process; default what PyTorch chooses, with several processes their share of the cores.
    compiled : bool
        Whether to use compiled derivatives where there are any (on the CPU, for what MD runs compiled, too, without
        normalization). They are checked against autograd's at the start, and ever more rarely along the way.
    batch_size, validation_batch_size : int
        Structures at a time, all processes together.
    max_epochs : int
        Length of the run.
    max_minutes : float or None
        Of training, after which it stops cleanly before its next step, and the same command continues. Reading data
        before, and a validation under way, come on top: leave a job that ends by itself some minutes.
    ema_decay : float
        Of the running mean of the weights that is validated and kept; 0 turns it off.
    early_stopping_epochs : int or None
        Stop after so many epochs without a better validation loss; at least ``validate_every``.
    checkpoint_minutes : float
        How much work a kill may cost, once the first epoch is done; 0 writes after every epoch.
    validate_every : int
        Epochs; the last epoch is validated in any case.
    tensorboard : bool
        Write TensorBoard's event files too.
    """

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    folder: str | None = None
    seed: int = Field(default=0, ge=0)
    dtype: Literal["float32", "float64"] = "float32"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    devices: Count = 1
    num_nodes: Count = 1
    threads: Count | None = None
    compiled: bool = True
    batch_size: Count = 5
    validation_batch_size: Count = 50
    max_epochs: Count = 1000
    max_minutes: Positive | None = None
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    early_stopping_epochs: Count | None = None
    checkpoint_minutes: NonNegative = 2.0
    validate_every: Count = 1
    tensorboard: bool = False

    @property
    def num_processes(self) -> int:
        """Processes on all machines together."""
        return self.devices * self.num_nodes

    @field_validator("device", mode="before")
    @classmethod
    def _double_precision(cls, value: Any) -> Any:
        if value == "mps":
            raise ValueError("energies are summed in float64, which MPS does not have: train on 'cpu' or 'cuda'")
        return value

    @model_validator(mode="after")
    def _work_for_each(self) -> Self:
        if self.batch_size < self.num_processes:
            raise ValueError(
                f"batch_size = {self.batch_size} structures cannot be shared by {self.num_processes} processes: "
                f"make it {self.num_processes} or more, or lower devices"
            )
        return self

    @model_validator(mode="after")
    def _validated_between(self) -> Self:
        every, patience = self.validate_every, self.early_stopping_epochs
        if patience is not None and patience < every:
            raise ValueError(
                f"early_stopping_epochs = {patience} is less than validate_every = {every}: the run would want to "
                f"stop between two validations; make it {every} or more, or lower validate_every"
            )
        return self


class CardConfig(Config):
    """What the model file says of its data.

    Attributes
    ----------
    description : str
        What the model is of, and where it holds.
    level_of_theory, training_data, test_data, citation, data_license : str
        What those who use the model need to know.
    license : str
        Of the model.
    """

    description: str = ""
    level_of_theory: str = ""
    training_data: str = ""
    test_data: str = ""
    citation: str = ""
    data_license: str = ""
    license: str = "MIT"


class TrainConfig(Config):
    """A training run.

    ``model.architecture.species`` may be left out, unless another key goes by species: the data has it.

    Attributes
    ----------
    init : str or None
        Name or file of a trained model to start from. All of ``model`` is left out then: the network and its weights
        are that model's.
    """

    data: DataConfig
    model: PotentialConfig
    init: str | None = None
    finetune: FinetuneConfig = FinetuneConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    run: RunConfig = RunConfig()
    card: CardConfig = CardConfig()
    species_from_data: bool = Field(default=False, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _species_may_be_absent(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("init") is not None:
            return _with_initial_model(values)
        model = values.get("model") if isinstance(values, dict) else None
        architecture = model.get("architecture") if isinstance(model, dict) else None
        if isinstance(architecture, str):
            raise ConfigError(
                f'model.architecture is a table: write [model.architecture] with name = "{architecture}" and a cutoff'
            )
        if not isinstance(model, dict) or not isinstance(architecture, dict) or "species" in architecture:
            return values
        for key in _BY_SPECIES:
            if architecture.get(key) is not None:
                raise ConfigError(f"model.architecture.{key} goes by species: give model.architecture.species, too")
        model = {**model, "architecture": {**architecture, "species": _ANY_SPECIES}}
        return {**values, "model": model, "species_from_data": True}

    @model_validator(mode="after")
    def _terms_of_readouts(self) -> Self:
        known = self.loss.readout_terms([readout.key for readout in self.model.readouts])
        if unknown := [name for name in self.loss.readouts if name not in known]:
            raise ValueError(
                f"loss.readouts has {unknown[0]!r}, which the model does not predict: "
                f"{'choose from ' + ', '.join(known) if known else 'list it in model.readouts'}"
            )
        terms = (self.loss.energy, self.loss.forces, self.loss.stress, *known.values())
        if not any(term.weight > 0 for term in terms):
            names = ["loss.energy", "loss.forces", "loss.stress", *(f"loss.readouts.{name}" for name in known)]
            raise ValueError(f"every weight of the loss is zero: give one of {', '.join(names)} a positive one")
        return self

    @model_validator(mode="after")
    def _finetune_needs_init(self) -> Self:
        if self.init is None and self.finetune != FinetuneConfig():
            raise ValueError("[finetune] says how a trained model is taken over, but init names none: add init = ...")
        return self

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.run.folder or f"runs/{self.run.name}")

    def with_architecture(self, **values: Any) -> Self:
        """Return a configuration whose architecture has some values set.

        Raises
        ------
        ConfigError
            If the architecture's other keys do not go with them.
        """
        architecture = type(self.model.architecture).parse({**self.model.architecture.model_dump(), **values})
        model = self.model.model_copy(update={"architecture": architecture})
        return self.model_copy(update={"model": model, "species_from_data": False})

    def fingerprint(self) -> str:
        """JSON of everything that decides the weights, to compare before a run continues."""
        return json.dumps(self._deciding(), sort_keys=True)

    def changes_since(self, earlier: TrainConfig) -> list[str]:
        """What decides the weights and was something else, as "optimizer.lr = 0.01 (was 0.02)"."""
        old, new = (_flat(config._deciding()) for config in (earlier, self))
        keys = [key for key in {**new, **old} if new.get(key) != old.get(key)]
        return [f"{key} = {json.dumps(new.get(key))} (was {json.dumps(old.get(key))})" for key in keys]

    def _deciding(self) -> dict[str, Any]:
        values = self.model_dump(mode="json", exclude={"card"})
        for section, keys in _FREE_TO_CHANGE.items():
            for key in keys:
                values[section].pop(key)
        _without_added(values)
        values["run"]["devices"] = 1  # any number gives the same weights; the text is that of a run on one
        if self.schedule.name not in ("cosine", "linear") or self.schedule.epochs is not None:
            values["run"].pop("max_epochs")  # the schedule does not look at it, so a run may be prolonged
        return values


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _without_added(values: dict[str, Any]) -> None:
    """Take out added keys that are not used: runs that were begun before them go on."""
    sections = {**values, "replay": values["finetune"]["replay"] or {}}
    for name, added in _ADDED.items():
        section = sections[name]
        for key, unused in added.items():
            if section.get(key) == unused:
                section.pop(key, None)


def _with_initial_model(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the initial model's network, and the defaults of fine-tuning."""
    init, finetune, data = values["init"], values.get("finetune") or {}, values.get("data")
    modal = finetune.get("modal") if isinstance(finetune, dict) else None
    header = read_header(resolve(str(init), modal))
    model = header.config.model_dump(mode="json")
    if values.get("model") not in (None, model):
        raise ConfigError(f"init = {init!r} brings its own network: leave out [model]")
    for name in ("references", "scale"):
        if isinstance(data, dict) and name in data and values.get("model") is None:
            raise ConfigError(f"data.{name} has no meaning with init = {init!r}: see finetune.references")
    optimizer = values.get("optimizer", {})
    if isinstance(optimizer, dict):  # what is none is for the validation to refuse
        optimizer = {"lr": 0.001, **optimizer}  # a fifth of what training from scratch starts with
    return {**values, "model": model, "optimizer": optimizer}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply ``section.key=value`` overrides.

    Raises
    ------
    ConfigError
        If the file is missing or not TOML, or a key or value is wrong.
    """
    return TrainConfig.parse(read_settings(path, overrides))


def read_settings(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The sections of a TOML file with overrides, for :meth:`TrainConfig.parse`.

    Raises
    ------
    ConfigError
        If the file is missing or not TOML, or an override is not ``section.key=value``.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a training configuration (TOML)") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: name the training configuration (TOML) in it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        _apply_override(values, override)
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {override!r}: write section.key=value, such as optimizer.lr=0.01")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # bare words and paths need no quotes
    for part in parts[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {part!r} is a value, not a section")
    values[parts[-1]] = value
