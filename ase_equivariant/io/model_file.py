"""Model files: safetensors with a JSON header. No pickle, nothing executed on load."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ase_equivariant.config import Config, ConfigError
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.file_kind import is_safetensors, what_else
from ase_equivariant.io.golden import Golden, GoldenMismatchError, check_golden, make_golden
from ase_equivariant.potential.content_hash import sha256_of
from ase_equivariant.potential.potential import Potential, PotentialConfig

FORMAT_VERSION = 1
_KEY = "ase_equivariant"
_UNITS = {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³ (tensile positive)"}


class ModelFileError(ValueError):
    """A model file that cannot be read; the message says what is wrong with it."""


class ModelCard(Config):
    """Where a model comes from and what it is worth.

    ``errors`` maps a quantity with its unit ("forces MAE (meV/Å)") to a number on
    the test data named in ``test_data``; ``reference_energies`` are eV per atom.
    """

    name: str
    description: str = ""
    level_of_theory: str = "not stated"
    training_data: str = "not stated"
    test_data: str = "not stated"
    data_license: str = "not stated"
    license: str = "not stated"
    citation: str = ""
    reference_energies: dict[str, float] = Field(default_factory=dict)
    errors: dict[str, float] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


class Header(Config):
    """The JSON header of a model file.

    ``sha256`` is that of everything else in the file, tensors and header.
    """

    format_version: int
    config: PotentialConfig
    units: dict[str, str]
    card: ModelCard
    golden: Golden
    packages: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class LoadedModel:
    """A potential (in the dtype it was saved in, not requiring gradients) with its header."""

    potential: Potential
    header: Header

    @property
    def card(self) -> ModelCard:
        """Where the model comes from and what it is worth."""
        return self.header.card


def save_model(path: str | Path, potential: Potential, card: ModelCard, golden_atoms: Atoms | None = None) -> Header:
    """Write ``potential`` and ``card`` to ``path``, whole or not at all.

    Parameters
    ----------
    path : path
        Conventionally ``*.safetensors``.
    potential : Potential
        Saved in its dtype; the caller's object is not changed.
    card : ModelCard
        Written into the header as it is.
    golden_atoms : Atoms, optional
        Structure whose energy and forces are stored and checked at every load.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in potential.state_dict().items()}
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "config": potential.config.model_dump(mode="json"),
        "units": _UNITS | {readout.key: readout.unit for readout in potential.config.readouts},
        "card": card.model_dump(mode="json"),
        "golden": make_golden(deepcopy(potential).cpu().double(), golden_atoms).model_dump(mode="json"),
        "packages": _package_versions(),
    }
    content["sha256"] = sha256_of(tensors, content)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: _to_json(content)})
    return Header.parse(content)


def read_header(path: str | Path) -> Header:
    """Read the header alone, without checking the tensors.

    Raises
    ------
    FileNotFoundError, ModelFileError
        If there is no such file, or it is not a model file of this package.
    """
    return _parse_header(path, json.loads(_read(path, with_tensors=False)[1]))


def load_model(path: str | Path) -> LoadedModel:
    """Read a model, verify its sha256 and ask its golden structure again in float64.

    Raises
    ------
    FileNotFoundError, ModelFileError
        If there is no such file, it is truncated, altered, of a newer format, or the
        potential does not reproduce the energies stored with it.
    """
    tensors, text = _read(path, with_tensors=True)
    content = json.loads(text)
    header = _parse_header(path, content)
    # The text too: the sha256 is of values, and the last digit of a number may change without its value.
    intact = sha256_of(tensors, {k: v for k, v in content.items() if k != "sha256"}) == header.sha256
    if not intact or text != _to_json(content):
        raise ModelFileError(f"{path}: the file was altered after it was written (sha256 differs): get it anew")
    with torch.random.fork_rng(devices=[]):  # building draws random weights; the user's generator stays as it was
        potential = Potential(header.config)
    try:
        potential.load_state_dict(tensors, strict=True)
        potential.requires_grad_(False)
        check_golden(potential, header.golden)
    except (RuntimeError, GoldenMismatchError) as error:
        raise ModelFileError(f"{path}: {' '.join(str(error).split())}") from None
    return LoadedModel(potential.to(tensors["network.embedding"].dtype), header)


def _read(path: str | Path, with_tensors: bool) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors (or none) and the header, which is valid JSON."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at {path}")
    if not is_safetensors(Path(path)) and (known := what_else(Path(path))):
        raise ModelFileError(f"{path}: not a model file: {known}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(
            f"{path}: not a whole safetensors file ({error}): it is truncated or damaged, get it anew"
        ) from None
    if _KEY not in metadata:
        raise ModelFileError(f"{path}: a safetensors file, but not a model of ase_equivariant (no header)")
    try:
        json.loads(metadata[_KEY])
    except json.JSONDecodeError as error:
        raise ModelFileError(f"{path}: its header is not valid JSON ({error})") from None
    return tensors, metadata[_KEY]


def _parse_header(path: str | Path, content: dict[str, Any]) -> Header:
    found = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(found, int):
        raise ModelFileError(f"{path}: its header states no format version")
    if found > FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: written in format {found}, this version reads up to {FORMAT_VERSION}: upgrade ase-equivariant"
        )
    try:
        return Header.parse(content)
    except ConfigError as error:
        raise ModelFileError(f"{path}: its header is not understood: {'; '.join(str(error).splitlines())}") from None


def _to_json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in ("ase-equivariant", "torch", "ase", "matscipy", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            versions[package] = "not installed"
    return versions
