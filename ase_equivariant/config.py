"""The one base class of every configuration: frozen, strict, with errors that name the nearest valid key."""

from __future__ import annotations

import difflib
import reprlib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

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
    location = [str(part) for part in fault["loc"]]
    where = ".".join(location) or config.__name__
    if fault["type"] == "extra_forbidden":
        valid = _fields_at(config, location[:-1])
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys are {', '.join(sorted(valid))}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: this key is required and missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{where}: {message}"  # it concerns several keys; all of them would hide the message
    return f"{where}: {message} (got {_BRIEF.repr(fault['input'])})"


def _fields_at(config: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the nested configuration at ``path``."""
    model: Any = config
    for key in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = _inner_model(model.model_fields[key].annotation)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    return []


def _inner_model(annotation: Any) -> Any:
    """The configuration class inside ``Config | None``, ``list[Config]`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = _inner_model(argument)
        if inner is not None:
            return inner
    return None
