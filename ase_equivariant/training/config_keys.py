"""Every key of a training configuration with its default and meaning, as the classes and their docstrings have them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ase_equivariant.config import inner_models
from ase_equivariant.training.config import TrainConfig

# "name, other : kind" and what is indented below it
_ENTRY = re.compile(r"^(\w+(?:, \w+)*) : (.+)\n((?:(?:    .*)?\n)+)", re.MULTILINE)


class Key(NamedTuple):
    """One key.

    Attributes
    ----------
    name : str
        With its sections, "[]" behind a list of tables and NAME for a name of the user's.
    default : Any
        As JSON has it; None if there is none.
    kind, meaning : str
        What it may be, and what it is.
    of : str
        Where a section is one of several kinds, of which it is; empty if of all.
    always : bool
        Whether every configuration has its section.
    """

    name: str
    default: Any
    kind: str
    meaning: str
    of: str
    always: bool


def config_keys() -> list[Key]:
    """All keys of :class:`TrainConfig` in the order of its classes; what several kinds of network share, once."""
    found: dict[tuple[str, str], Key] = {}
    for key in _keys_of(TrainConfig):
        same = (key.name, key.meaning)
        found[same] = found[same]._replace(of="") if same in found else key
    return list(found.values())


def _keys_of(
    config: type[BaseModel], prefix: str = "", of: str = "", always: bool = True, values: Any = None
) -> Iterator[Key]:
    """``values`` is what a section is if it is left out."""
    explained = _attributes(config)
    for name, field in config.model_fields.items():
        if field.exclude:
            continue
        default = getattr(values, name, None if field.is_required() else field.get_default(call_default_factory=True))
        sections, full = inner_models(field.annotation), f"{prefix}{name}"
        if not sections:
            yield Key(full, to_jsonable_python(default), *explained[name], of, always)
        container = get_origin(field.annotation)
        place = f"{full}[]" if container is tuple else f"{full}.NAME" if container is dict else full
        for section in sections:
            kind = _kind_of(section) if len(sections) > 1 else of
            own = default if isinstance(default, section) else None
            yield from _keys_of(section, f"{place}.", kind, always and (field.is_required() or own is not None), own)


def _kind_of(section: type[BaseModel]) -> str:
    """The key and the literal that tell one kind of section from the others."""
    literals = (name for name in ("kind", "name") if name in section.model_fields)
    name = next(name for name in literals if len(get_args(section.model_fields[name].annotation)) == 1)
    return f"{name} = {json.dumps(section.model_fields[name].default)}"


def _attributes(config: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Kind and meaning of the attributes in a class' docstring, and in those of the classes that it extends."""
    explained: dict[str, tuple[str, str]] = {}
    for base in reversed(config.__mro__):
        for names, kind, text in _ENTRY.findall(f"{inspect.getdoc(base) or ''}\n"):
            for name in names.split(", "):
                explained[name] = kind, " ".join(text.split())
    return explained
