"""The one base class of every configuration: frozen, strict, with errors that name the nearest valid key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

_TAGS = ("name", "kind")  # keys that choose one of several configurations

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

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, dict) else ():
            booleans = _booleans(value) if key in cls.model_fields else []
            if booleans:
                kinds = _kinds(cls.model_fields[key].annotation)
                if kinds & {int, float} and bool not in kinds:
                    should = "should be a number" if isinstance(value, bool) else "should have numbers only"
                    raise ValueError(f"{key} {should} (got {str(booleans[0]).lower()})")
        return values

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
            raise ConfigError("\n".join(_describe(cls, fault) for fault in _by_key(cls, error.errors()))) from None


def _booleans(value: Any) -> list[bool]:
    """The true and false of a value, of what a list or table holds too."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [found for item in value for found in _booleans(item)]
    return [value] if isinstance(value, bool) else []


def _kinds(annotation: Any) -> set[Any]:
    """An annotation and all that it is made of, as of ``Annotated[float, …] | None``."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


def _by_key(config: type[BaseModel], faults: Sequence[Any]) -> list[Any]:
    """The faults, those of one key in one: where values of several kinds go, pydantic has one fault of every kind."""
    groups: dict[Any, list[Any]] = {}
    for k, fault in enumerate(faults):
        end = _end_of_key(config, fault["loc"])
        groups.setdefault(k if end is None else fault["loc"][:end], []).append(fault)
    return [_merged(key, group) if isinstance(key, tuple) else group[0] for key, group in groups.items()]


def _end_of_key(config: type[BaseModel], path: Sequence[Any]) -> int | None:
    """How much of ``path`` leads to a value that may be of several kinds; the kind that a fault is of is behind it."""
    for end in range(1, len(path)):
        keys, inside, _ = _locate(config, path[:end])
        if inside is not None and keys[-1] in inside.model_fields:
            annotation = inside.model_fields[keys[-1]].annotation
            several = len([kind for kind in get_args(annotation) if kind is not NoneType]) > 1
            if get_origin(annotation) in (Union, UnionType) and several and not inner_models(annotation):
                return end
    return None


def _merged(key: tuple[Any, ...], faults: Sequence[Any]) -> Any:
    """One fault in place of those of several kinds: what is wrong inside of the right kind, or else with its value."""
    inside = [fault for fault in faults if len(fault["loc"]) > len(key) + 1]
    of_value = [fault for fault in faults if not fault["type"].endswith("_type")]
    told = inside[:1] or of_value or faults
    first, *others = dict.fromkeys(fault["msg"] for fault in told)
    message = ", or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    return {**told[0], "loc": (*key, *told[0]["loc"][len(key) + 1 :]), "msg": message}


def _describe(config: type[BaseModel], fault: Any) -> str:
    location, model, choices = _locate(config, fault["loc"])
    where = ".".join(location) or config.__name__
    if fault["type"] == "extra_forbidden":
        fields = {} if model is None else model.model_fields
        valid = [name for name, field in fields.items() if field.repr]  # the others are no one's business
        meant = _meant(config, location, valid)
        hint = f"did you mean {meant!r}?" if meant else f"valid keys are {', '.join(sorted(valid))}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: this key is required and missing"
    if fault["type"] == "union_tag_invalid":
        told = fault["ctx"]
        key = told["discriminator"].strip("'")
        return f"{where}.{key}: Input should be {' or '.join(told['expected_tags'].split(', '))} (got {told['tag']!r})"
    if fault["type"] == "union_tag_not_found" and isinstance(fault["input"], dict):
        key, kinds = fault["ctx"]["discriminator"], [tag for choice in choices for tag in _tags(choice)]
        return f"{where}: {key} is missing: it is one of {', '.join(kinds)} (got {_BRIEF.repr(fault['input'])})"
    if fault["type"] == "tuple_type" and isinstance(fault["input"], dict):
        return f"{where}: there may be several: write [[{where}]], in double brackets"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{where}: {message}"  # it concerns several keys; all of them would hide the message
    return f"{where}: {message} (got {_BRIEF.repr(fault['input'])})"


def _meant(config: type[BaseModel], location: Sequence[str], valid: Sequence[str]) -> str | None:
    """What an unknown key means: itself in another section, a valid key beside it, or nearly itself elsewhere."""
    key, places = location[-1], _places(config)

    def elsewhere(name: str | None) -> str | None:
        """Path of the one section that has the key, of those that are least nested."""
        there = [path for path in places if path[-1] == name and path != tuple(location)]
        highest = [path for path in there if len(path) == min(map(len, there))]
        return ".".join(highest[0]) if len(highest) == 1 else None

    return elsewhere(key) or _alike(key, valid) or elsewhere(_alike(key, [path[-1] for path in places], 0.8))


def _alike(key: str, valid: Sequence[str], cutoff: float = 0.55) -> str | None:
    """Initials of the key, as ``lr`` of learning_rate, or what is spelled alike."""
    initials = "".join(word[:1] for word in key.split("_"))
    if "_" in key and initials in valid:
        return initials
    return next(iter(difflib.get_close_matches(key, valid, n=1, cutoff=cutoff)), None)


def _places(config: type[BaseModel]) -> list[tuple[str, ...]]:
    """Paths of all keys of a configuration and its sections, each once; not of those that are listed."""
    places: dict[tuple[str, ...], None] = {}
    for name, field in config.model_fields.items():
        places[name,] = None
        for section in inner_models(field.annotation, listed=False):
            places.update({(name, *rest): None for rest in _places(section)})
    return list(places)


def _locate(
    config: type[BaseModel], path: Sequence[Any]
) -> tuple[list[str], type[BaseModel] | None, list[type[BaseModel]]]:
    """The keys of ``path`` as they are in the file, the configuration that has the last of them, and those it may hold.

    Where a key may hold one of several configurations, pydantic puts the name of the chosen one behind the key.
    """
    keys: list[str] = []
    inside: type[BaseModel] | None = None
    choices: list[type[BaseModel]] = [config]
    for part in map(str, path):
        chosen = [choice for choice in choices if part in _tags(choice)]
        if len(choices) > 1 and chosen:
            choices = chosen
            continue
        keys.append(part)
        inside = choices[0] if choices else None
        if inside is not None and part in inside.model_fields:  # otherwise a position in a list, or a key of a table
            choices = inner_models(inside.model_fields[part].annotation)
    return keys, inside, choices


def _tags(config: type[BaseModel]) -> list[str]:
    """What a configuration calls itself, to be told from others that may be in its place."""
    defaults = [config.model_fields[key].default for key in _TAGS if key in config.model_fields]
    return [tag for tag in defaults if isinstance(tag, str)]  # a required name has none


def inner_models(annotation: Any, listed: bool = True) -> list[type[BaseModel]]:
    """The configuration classes inside ``Config | None``, ``Config | Other`` and, if wanted, ``list[Config]``."""
    if not listed and get_origin(annotation) in (tuple, list, dict):
        return []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in inner_models(argument, listed)]
