"""The one base class of every configuration: frozen, strict, with errors that name the nearest valid key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

_NAMELESS = FieldInfo()

# Values in messages: as long as anyone reads.
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 120
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxtuple, _BRIEF.maxdict = 3, 10, 10, 10


class ConfigError(ValueError):
    """A configuration that cannot be used; the message has one line for each thing to mend."""


class Config(BaseModel):
    """Base of all configurations.

    Build it with :meth:`parse` from the contents of a TOML or JSON file: an unknown key,
    a missing one or a value of the wrong kind raises :class:`ConfigError` with one line
    per fault, before any data is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Validate ``values``.

        Raises
        ------
        ConfigError
            One line per fault: where it is, what was found and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError("\n".join(_describe(cls, fault) for fault in error.errors())) from None


def _describe(config: type[BaseModel], fault: Any) -> str:
    location, model = _locate(config, fault["loc"])
    where = ".".join(location) or config.__name__
    if fault["type"] == "extra_forbidden":
        valid = [] if model is None else list(model.model_fields)
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys are {', '.join(sorted(valid))}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: this key is required and missing"
    if fault["type"] == "union_tag_invalid":
        told = fault["ctx"]
        key = told["discriminator"].strip("'")
        return f"{where}.{key}: Input should be {' or '.join(told['expected_tags'].split(', '))} (got {told['tag']!r})"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{where}: {message}"  # it concerns several keys; all of them would hide the message
    return f"{where}: {message} (got {_BRIEF.repr(fault['input'])})"


def _locate(config: type[BaseModel], path: Sequence[Any]) -> tuple[list[str], type[BaseModel] | None]:
    """The keys of ``path`` as they are in the file, and the configuration that the last of them is in.

    Where a key may hold one of several configurations, pydantic puts the name of the chosen one behind the key.
    """
    keys: list[str] = []
    inside: type[BaseModel] | None = None
    choices: list[type[BaseModel]] = [config]
    for part in map(str, path):
        chosen = [choice for choice in choices if choice.model_fields.get("name", _NAMELESS).default == part]
        if len(choices) > 1 and chosen:
            choices = chosen
            continue
        keys.append(part)
        inside = choices[0] if choices else None
        if inside is not None and part in inside.model_fields:  # otherwise a position in a list, or a key of a table
            choices = inner_models(inside.model_fields[part].annotation)
    return keys, inside


def inner_models(annotation: Any) -> list[type[BaseModel]]:
    """The configuration classes inside ``Config | None``, ``list[Config]``, ``Config | Other`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in inner_models(argument)]
