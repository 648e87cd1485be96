"""Which structures a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from ase.data import chemical_symbols
from pydantic import Field, field_validator, model_validator

from ase_equivariant.training.labels import Files, LabelConfig, listed
from ase_equivariant.training.numbers import Count, Fraction, Positive

PerElement = dict[str, float]


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
        whenever its turn comes, two batches ahead of training: for sets that are larger than memory.
    from_each_file : bool
        Whether these numbers and fractions are of each of the ``train`` files, not of all together.
    train_indices, validation_indices, test_indices : tuple of int or None
        Explicit positions in the ``train`` files, instead of a draw.
    test_where : dict or None
        Or test structures by what they carry in ``atoms.info``: keys, and patterns that the text of each value
        must match, such as ``{file = "test*"}``.
    split_seed : int
        Of the draws.
    references : {"least_squares", "isolated_atoms", "none"} or dict
        Energy of each element: fitted, that of lone atoms (in ``isolated_atoms`` or among the
        structures), zero, or values in eV.
    isolated_atoms : str or None
        File of single atoms with energies, for ``references = "isolated_atoms"``.
    scale : {"forces_rms", "forces_rms_per_species", "none"} or float
        Unit of energy of the network's output in eV: the root mean square force (where forces are rounding only, the
        spread of energies per atom), 1, or a value.
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
    def _each_file_once(self) -> Self:
        train = listed(self.train)
        places = [Path(file).resolve() for file in train]
        if twice := [file for file, place in zip(train, places, strict=True) if places.count(place) > 1]:
            raise ValueError(f"train names {twice[0]} twice: take it out once")
        for part in ("validation", "test"):
            if both := [file for file in listed(getattr(self, part)) if Path(file).resolve() in places]:
                raise ValueError(f"{part} names {both[0]}, which train has too: give a number of structures instead")
        return self

    @model_validator(mode="after")
    def _isolated_atoms_are_used(self) -> Self:
        if self.isolated_atoms is not None and self.references != "isolated_atoms":
            raise ValueError('isolated_atoms is for references = "isolated_atoms": set that, or leave out the file')
        return self

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        others = [key for key in ("test", "test_indices", "train_indices") if getattr(self, key) is not None]
        if self.test_where is not None and others:
            raise ValueError(f"test_where and {others[0]} cannot be combined: leave out one of them")
        return self

    @model_validator(mode="after")
    def _numbers_or_indices(self) -> Self:
        for key, indices in (("num_train", "train"), ("validation", "validation"), ("test", "test")):
            value = getattr(self, key)
            # the default of validation is in every resolved configuration
            given = isinstance(value, int | float) and value != type(self).model_fields[key].default
            if given and getattr(self, f"{indices}_indices") is not None:
                raise ValueError(f"{key} = {value} and {indices}_indices cannot be combined: leave out one of them")
        return self

    @model_validator(mode="after")
    def _consistent_indices(self) -> Self:
        explicit = (self.train_indices, self.validation_indices, self.test_indices)
        given = [index for indices in explicit if indices is not None for index in indices]
        if len(set(given)) < len(given):
            raise ValueError("a structure is listed twice in train_indices, validation_indices and test_indices")
        if self.validation_indices == ():
            raise ValueError("validation_indices is empty: list a structure, which best weights need, or leave it out")
        if any(index < 0 for index in given):
            raise ValueError("train_indices, validation_indices and test_indices count from 0")
        return self

    def label_config(self) -> LabelConfig:
        """The part that says how files are read."""
        return LabelConfig(**{name: getattr(self, name) for name in LabelConfig.model_fields})
