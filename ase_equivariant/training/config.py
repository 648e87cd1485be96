"""What a training run is: one TOML file, validated as a whole before any data is read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ase.data import chemical_symbols
from pydantic import Field, field_validator, model_validator

from ase_equivariant.config import Config, ConfigError
from ase_equivariant.io.model_file import read_header
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential.potential import PotentialConfig
from ase_equivariant.training.finetune_config import FinetuneConfig
from ase_equivariant.training.labels import ADDED_LABELS, Files, LabelConfig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# A whole number is a count of structures, a number below one a fraction, text a file.
Count = Annotated[int, Field(strict=True, ge=1)]
Fraction = Annotated[float, Field(strict=True, gt=0, lt=1)]
PerElement = dict[str, float]

# Placeholder where the species are left to the data, so that the rest can be validated without it.
_ANY_SPECIES = ["H"]
# What may change when a killed run continues: nothing that moves the weights.
_FREE_TO_CHANGE = {
    "run": ("max_minutes", "threads", "checkpoint_minutes", "tensorboard", "folder", "name", "num_nodes")
}
# Keys that came later, at the values that stand for how it was before.
_ADDED_LABELS = {**{key: LabelConfig.model_fields[key].default for key in ADDED_LABELS}, "readout_keys": {}}
_ADDED: dict[str, dict[str, Any]] = {
    "model": {"readouts": []},
    "loss": {"readouts": {}},
    "data": {**_ADDED_LABELS, "from_each_file": False, "streaming": False},
    "replay": _ADDED_LABELS,
}


class DataConfig(LabelConfig):
    """Which structures are trained on, which choose the best weights, which are only reported.

    Attributes
    ----------
    train : str or tuple of str
        Files. Relative paths start from the current directory.
    validation, test : str, tuple of str, int or float
        Files, or how many (or what fraction) of the structures in ``train``, drawn with ``split_seed``.
    num_train : int or None
        At most this many structures for training, drawn with ``split_seed``.
    streaming : bool
        Leave the structures in their files, ASE's databases (``.db``, ``.aselmdb``), and read and convert each
        whenever its turn comes, a step ahead of training: for sets that are larger than memory.
    from_each_file : bool
        Whether these numbers and fractions are of each of the ``train`` files, not of all together.
    train_indices, validation_indices, test_indices : tuple of int or None
        Explicit positions in the ``train`` files, instead of a draw.
    test_where : dict or None
        Or test structures by what they carry in ``atoms.info``: keys, and patterns that the text of each value
        must match, such as ``{file = "test*"}``.
    references : {"least_squares", "isolated_atoms", "none"} or dict
        Energy of each element: fitted, that of lone atoms (in ``isolated_atoms`` or among the
        structures), zero, or values in eV.
    isolated_atoms : str or None
        File of single atoms with energies.
    scale : {"forces_rms", "forces_rms_per_species", "none"} or float
        Unit of energy of the network's output in eV.
    """

    train: Files
    validation: Files | Count | Fraction = 0.1
    test: Files | Count | Fraction | None = None
    num_train: Count | None = None
    streaming: bool = False
    from_each_file: bool = False
    train_indices: tuple[int, ...] | None = None
    validation_indices: tuple[int, ...] | None = None
    test_indices: tuple[int, ...] | None = None
    test_where: dict[str, str] | None = None
    split_seed: int = Field(default=0, ge=0)
    references: Literal["least_squares", "isolated_atoms", "none"] | PerElement = "least_squares"
    isolated_atoms: str | None = None
    scale: Literal["forces_rms", "forces_rms_per_species", "none"] | Positive = "forces_rms"

    @field_validator("references")
    @classmethod
    def _known_elements(cls, value: str | PerElement) -> str | PerElement:
        unknown = [symbol for symbol in value if symbol not in chemical_symbols[1:]] if isinstance(value, dict) else []
        if unknown:
            raise ValueError(f"not a chemical symbol: {', '.join(unknown)}")
        return value

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        others = [key for key in ("test", "test_indices", "train_indices") if getattr(self, key) is not None]
        if self.test_where is not None and others:
            raise ValueError(f"test_where and {others[0]} cannot be combined: leave out one of them")
        return self

    @model_validator(mode="after")
    def _consistent_indices(self) -> Self:
        explicit = (self.train_indices, self.validation_indices, self.test_indices)
        given = [index for indices in explicit if indices is not None for index in indices]
        if len(set(given)) < len(given):
            raise ValueError("a structure is listed twice in train_indices, validation_indices and test_indices")
        if any(index < 0 for index in given):
            raise ValueError("train_indices, validation_indices and test_indices count from 0")
        return self

    def label_config(self) -> LabelConfig:
        """The part that says how files are read."""
        return LabelConfig(**{name: getattr(self, name) for name in LabelConfig.model_fields})


class OptimizerConfig(Config):
    """The optimizer.

    Attributes
    ----------
    name : {"adam", "adamw", "muon"}
        "muon" orthogonalizes the steps of weight matrices and gives the rest to AdamW.
    lr : float
        Learning rate at full height of the schedule. Muon's steps are scaled to the size of
        Adam's, so that one value serves both.
    weight_decay : float
        Decoupled from the gradient for "adamw" and "muon".
    betas : tuple of float
        Adam's decay rates.
    momentum : float
        Muon's, Nesterov.
    amsgrad : bool
        For "adam" and "adamw".
    gradient_clip : float or None
        Largest norm of the whole gradient.
    """

    name: Literal["adam", "adamw", "muon"] = "adamw"
    lr: Positive = 0.005
    weight_decay: NonNegative = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    amsgrad: bool = False
    gradient_clip: Positive | None = 10.0


class ScheduleConfig(Config):
    """The learning rate over the run.

    Attributes
    ----------
    name : {"constant", "cosine", "linear", "plateau"}
        Shape after the warm-up.
    warmup_epochs : float
        Linear rise from zero, before and under any shape.
    final_factor : float
        Where "cosine" and "linear" end and what "plateau" does not go below, in units of ``lr``.
    epochs : int or None
        Length of "cosine" and "linear"; default ``run.max_epochs``.
    plateau_factor, plateau_patience : float, int
        "plateau" multiplies by the factor after so many epochs without a better validation loss.
    """

    name: Literal["constant", "cosine", "linear", "plateau"] = "cosine"
    warmup_epochs: NonNegative = 1.0
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.01
    epochs: Count | None = None
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    plateau_patience: Count = 50


class TermConfig(Config):
    """One term of the loss: a weight and a shape.

    Attributes
    ----------
    weight : float
        Zero leaves the term out.
    kind : {"mse", "huber", "mae", "norm"}
        Huber is quadratic below ``delta`` and linear above. "norm" is the length of each
        error vector (for forces, the distance |ΔF_i|; for a scalar, its absolute value): it
        minds frames with large errors less than "mse", and does not depend on axes as "mae" does.
    delta : float
        In eV/atom, eV/Å or eV/Å³.
    """

    weight: NonNegative = 1.0
    kind: Literal["mse", "huber", "mae", "norm"] = "mse"
    delta: Positive = 0.01


class EnergyTermConfig(TermConfig):
    """The energy's term; ``per_atom`` divides the error by the number of atoms."""

    per_atom: bool = True


class LossConfig(Config):
    """Sum of one term for each labelled read-out.

    Attributes
    ----------
    energy, forces, stress : TermConfig
        Terms of the energy and its derivatives.
    readouts : dict of TermConfig
        Those of the model's other read-outs by name, whose errors are divided by the read-out's scale. What is not
        listed has weight 1, but "born_effective_charges", the dipole's derivatives, 0.
    """

    energy: EnergyTermConfig = EnergyTermConfig()
    forces: TermConfig = TermConfig()
    stress: TermConfig = TermConfig(weight=0.0)
    readouts: dict[str, TermConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> Self:
        others = any(term.weight > 0 for term in self.readouts.values())
        if self.energy.weight == self.forces.weight == self.stress.weight == 0 and not others:
            raise ValueError("every weight is zero: give energy, forces or stress a positive one")
        return self

    def readout_terms(self, readouts: Sequence[str]) -> dict[str, TermConfig]:
        """Terms of the read-outs of a model, and of derivatives of its dipole."""
        names = [*readouts, *(["born_effective_charges"] if "dipole" in readouts else [])]
        unnamed = {name: TermConfig(weight=0.0 if name == "born_effective_charges" else 1.0) for name in names}
        return {name: self.readouts.get(name, term) for name, term in unnamed.items()}


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
    device : str
        Lightning's accelerator: "cpu", "cuda", "mps" or "auto".
    devices : int
        Processes on each machine, one GPU each where there are GPUs. Together they share every batch and
        change nothing but the time it takes; a run may go on with another number of them.
    num_nodes : int
        Machines. With more than one, each process is started by Slurm or torchrun.
    threads : int or None
        Threads of each process; default what PyTorch chooses, with several processes their share of the cores.
    compiled : bool
        Whether to use compiled derivatives where there are any (on the CPU, for what MD runs compiled, too, without
        normalization). They are checked against autograd's at the start.
    batch_size, validation_batch_size : int
        Structures of one step, all processes together.
    max_epochs : int
        Length.
    max_minutes : float or None
        Stop cleanly before this; the same command continues.
    ema_decay : float
        Of the running mean of the weights that is validated and kept; 0 turns it off.
    early_stopping_epochs : int or None
        Stop after so many epochs without a better validation loss.
    checkpoint_minutes : float
        How much work a kill may cost; 0 writes after every epoch.
    validate_every : int
        Epochs.
    tensorboard : bool
        Write TensorBoard's event files too.
    """

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    folder: str | None = None
    seed: int = Field(default=0, ge=0)
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
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

    @model_validator(mode="after")
    def _work_for_each(self) -> Self:
        if self.batch_size < self.num_processes:
            raise ValueError(
                f"batch_size = {self.batch_size} structures cannot be shared by {self.num_processes} processes: "
                f"make it {self.num_processes} or more, or lower devices"
            )
        return self


class CardConfig(Config):
    """What the model file says of its data."""

    description: str = ""
    level_of_theory: str = ""
    training_data: str = ""
    test_data: str = ""
    citation: str = ""
    data_license: str = ""
    license: str = "MIT"


class TrainConfig(Config):
    """A training run.

    ``model.architecture.species`` may be left out: the data has it. With ``init``, the name or file of a
    trained model, all of ``model`` is left out: the network and its weights are that model's.
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
    species_from_data: bool = Field(default=False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _species_may_be_absent(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("init") is not None:
            return _with_initial_model(values)
        model = values.get("model") if isinstance(values, dict) else None
        architecture = model.get("architecture") if isinstance(model, dict) else None
        if not isinstance(model, dict) or not isinstance(architecture, dict) or "species" in architecture:
            return values
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
        """Return a configuration whose architecture has some values set."""
        architecture = self.model.architecture.model_copy(update=values)
        model = self.model.model_copy(update={"architecture": architecture})
        return self.model_copy(update={"model": model, "species_from_data": False})

    def fingerprint(self) -> str:
        """JSON of everything that decides the weights, to compare before a run continues."""
        values = self.model_dump(mode="json", exclude={"card"})
        for section, keys in _FREE_TO_CHANGE.items():
            for key in keys:
                values[section].pop(key)
        _without_added(values)
        values["run"]["devices"] = 1  # any number gives the same weights; the text is that of a run on one
        if self.schedule.name not in ("cosine", "linear") or self.schedule.epochs is not None:
            values["run"].pop("max_epochs")  # the schedule does not look at it, so a run may be prolonged
        return json.dumps(values, sort_keys=True)


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
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a training configuration (TOML)") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        _apply_override(values, override)
    return TrainConfig.parse(values)


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
