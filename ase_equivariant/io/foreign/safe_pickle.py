"""Pickles read as data, whatever they name.

A pickle is a program for a machine with a stack, and Python's own machine calls whatever the program
names. This one knows the same opcodes, but has no names: what it makes are numbers, texts, containers and
inert records, besides what the few functions make that its caller allows. Nothing is imported, no other
function or method is called, no attribute is set. The time and memory it takes are of the order of the
pickle's length.

References
----------
Python's `pickletools`, which documents the opcodes and takes programs apart.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

# Nothing would come of these names here; but a file that has them was made to harm, and its owner should know.
_HARMFUL_MODULES = frozenset({
    "_pickle", "asyncio", "code", "codeop", "commands", "ctypes", "importlib", "marshal", "multiprocessing", "nt", "os",
    "pickle", "posix", "pty", "runpy", "shutil", "signal", "socket", "subprocess", "sys", "threading", "webbrowser",
})  # fmt: skip
_HARMFUL_BUILTINS = frozenset({"__import__", "breakpoint", "compile", "eval", "exec", "execfile", "input", "open"})
# A pickle can use a thing again at the cost of two bytes; what is done with it each time must not be long.
_MAX_NAME = 500
_MAX_ARGUMENTS = 50


class UnsafePickleError(ValueError):
    """A pickle or archive that is damaged, or asks for what reading data does not need; the message says what."""


@dataclass(frozen=True)
class Named:
    """A class or function that the pickle refers to, by module and name; it was not loaded."""

    name: str


@dataclass(eq=False)
class Record:
    """Something of a class that was not loaded, or what a function that was not called would have made.

    Attributes
    ----------
    name : str
        Module and name of the class or function.
    args : tuple
        What it was made with.
    keywords : dict
        What it was made with by keyword.
    state : Any
        Its attributes, usually a dict; None if the file gives it none.
    entries : list
        Its elements, or (key, value) pairs, if it was filled like a list or dict.
    """

    name: str
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    entries: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<record of {self.name}>"


def read_pickle(
    content: bytes, allowed: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """What a pickle describes.

    Parameters
    ----------
    content : bytes
        The pickle, of any protocol.
    allowed : mapping
        Functions of the caller's that stand for the names they are under ("module.name"); they are called
        with what the pickle gives them and have to mistrust it.
    persistent : callable, optional
        Gives what the pickle refers to as stored elsewhere.

    Returns
    -------
    object
        Plain values, lists, dicts, sets, tuples, :class:`Named` and :class:`Record`, and what ``allowed``
        and ``persistent`` gave.

    Raises
    ------
    UnsafePickleError
        If it is damaged, or names something that only serves to do harm.
    """
    machine = _Machine(allowed, persistent, len(content))
    try:
        return machine.run(content)
    except UnsafePickleError:
        raise
    except Exception as error:  # a made-up pickle can make Python raise anything
        problem = " ".join(str(error).split()) or type(error).__name__
        raise UnsafePickleError(f"its pickle is damaged: {problem}") from None


class _Machine:
    """Runs a pickle's opcodes on values."""

    def __init__(self, allowed: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None, size: int):
        containers: dict[str, Callable[..., Any]] = {
            "collections.OrderedDict": self._ordered_dict,
            "builtins.set": self._set,
            "builtins.frozenset": self._frozenset,
            "builtins.slice": slice,
            "__builtin__.set": self._set,  # their names in protocol 2, which torch.save writes
            "__builtin__.frozenset": self._frozenset,
            "__builtin__.slice": slice,
        }
        self.allowed = {**containers, **allowed}
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}
        # Containers may be made of others; in all of no more elements than the pickle has bytes.
        self.elements_left = size

    def run(self, content: bytes) -> Any:
        """The value on the stack at the end."""
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _LITERALS:
                self.stack.append(argument)
            elif opcode.name in _OPERATIONS:
                _OPERATIONS[opcode.name](self, argument)
            else:
                raise UnsafePickleError(f"its pickle has the opcode {opcode.name}, which data do not need")
        raise UnsafePickleError("its pickle has no end")

    def marked(self) -> list[Any]:
        """Take what lies above the topmost mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def drop_marked(self) -> None:
        """Drop what lies above the topmost mark."""
        self.marked()

    def mark(self) -> None:
        """Put a mark."""
        self.below.append(self.stack)
        self.stack = []

    def pop_or_unmark(self) -> None:
        """Drop the topmost value, or the mark."""
        self.stack.pop() if self.stack else self.drop_marked()

    def named(self, module: str, name: str) -> Named:
        """A name, unless it is one of those that only serve to do harm."""
        package = module.partition(".")[0]
        builtin = package in ("builtins", "__builtin__") and name in _HARMFUL_BUILTINS
        if len(module) + len(name) > _MAX_NAME:
            raise UnsafePickleError("its pickle has a name longer than any")
        if builtin or package in _HARMFUL_MODULES:
            raise UnsafePickleError(
                f"it asks for {module}.{name}, which no model needs: it may be made to harm whoever loads it"
            )
        return Named(f"{module}.{name}")

    def make(self, what: Any, args: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> Any:
        """What an allowed function gives, or a record."""
        if not isinstance(what, Named) or not isinstance(args, tuple):
            raise UnsafePickleError(f"its pickle calls a {type(what).__name__} with a {type(args).__name__}")
        if what.name not in self.allowed:
            return Record(what.name, args, keywords or {})
        if keywords or len(args) > _MAX_ARGUMENTS:
            raise UnsafePickleError(f"its pickle calls {what.name} with other arguments than data do")
        return self.allowed[what.name](*args)

    def _set(self, items: Any = ()) -> set[Any]:
        self._copy(items)
        return set(map(_key, items))

    def _frozenset(self, items: Any = ()) -> frozenset[Any]:
        return frozenset(self._set(items))

    def _ordered_dict(self, items: Any = ()) -> dict[Any, Any]:
        self._copy(items)
        return {_key(key): value for key, value in items}

    def _copy(self, items: Any) -> None:
        if not isinstance(items, (list, tuple)):
            raise UnsafePickleError(f"its pickle makes a container of a {type(items).__name__}")
        self.elements_left -= len(items)
        if self.elements_left < 0:
            raise UnsafePickleError("its pickle makes more elements than it has bytes")


def _key(value: Any) -> Any:
    """``value`` if it is a key that data have; hashing it takes no time to speak of."""
    parts = value if isinstance(value, tuple) else (value,)
    for part in parts:
        known = part is None or isinstance(part, (str, bytes, int, float, Named, Record))
        if not known or len(parts) > _MAX_ARGUMENTS or (isinstance(part, int) and part.bit_length() > 64):
            raise UnsafePickleError(f"its pickle has a key of type {type(value).__name__} that data do not have")
    return value


def _fill_list(target: Any, items: list[Any]) -> None:
    target = target.entries if isinstance(target, Record) else target
    target.extend(items) if isinstance(target, list) else _misused(target)


def _fill_dict(target: Any, items: list[Any]) -> None:
    pairs = list(zip(items[::2], items[1::2], strict=True))
    if isinstance(target, Record):
        target.entries.extend(pairs)
    elif isinstance(target, dict):
        target.update((_key(key), value) for key, value in pairs)
    else:
        _misused(target)


def _fill_set(target: Any, items: list[Any]) -> None:
    target.update(map(_key, items)) if isinstance(target, set) else _misused(target)


def _set_state(target: Any, state: Any) -> None:
    """State of a record; what PyTorch attaches to the dict of a model's tensors is left out."""
    if isinstance(target, Record):
        target.state = state
    elif not isinstance(target, dict):
        _misused(target)


def _misused(target: Any) -> NoReturn:
    raise UnsafePickleError(f"its pickle changes a {type(target).__name__}, which data do not need")


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def operation(machine: _Machine, _: Any) -> None:
        if len(machine.stack) < count:
            raise UnsafePickleError("its pickle is damaged: it takes more values than it has made")
        start = len(machine.stack) - count
        machine.stack[start:] = [tuple(machine.stack[start:])]

    return operation


def _make(machine: _Machine, _: Any) -> None:
    args, what = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.make(what, args))


def _make_with_keywords(machine: _Machine, _: Any) -> None:
    keywords, args, what = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.make(what, args, keywords))


def _instance(machine: _Machine, argument: str | None) -> None:
    """INST names the class in its argument, OBJ has it before the arguments."""
    items = machine.marked()
    what = items.pop(0) if argument is None else machine.named(*argument.split(" ", 1))
    machine.stack.append(machine.make(what, tuple(items)))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.named(module, name))


def _persistent(machine: _Machine, _: Any) -> None:
    if machine.persistent is None:
        raise UnsafePickleError("its pickle refers to something stored elsewhere")
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _fill_dict(machine.stack[-1], [key, value])


def _frozen_set(machine: _Machine, _: Any) -> None:
    items = machine.marked()
    machine.stack.append(frozenset(map(_key, items)))


def _dict_of_marked(machine: _Machine, _: Any) -> None:
    items = machine.marked()
    machine.stack.append({})
    _fill_dict(machine.stack[-1], items)


def _fill_marked(fill: Callable[[Any, list[Any]], None]) -> Callable[[_Machine, Any], None]:
    def operation(machine: _Machine, _: Any) -> None:
        items = machine.marked()
        fill(machine.stack[-1], items)

    return operation


def _fill_one(fill: Callable[[Any, Any], None]) -> Callable[[_Machine, Any], None]:
    def operation(machine: _Machine, _: Any) -> None:
        value = machine.stack.pop()
        fill(machine.stack[-1], value)

    return operation


def _push(make: Callable[[_Machine, Any], Any]) -> Callable[[_Machine, Any], None]:
    """The operation that pushes what ``make`` gives; it is made before the stack is looked up: marks exchange it."""

    def operation(machine: _Machine, argument: Any) -> None:
        value = make(machine, argument)
        machine.stack.append(value)

    return operation


def _memoize(machine: _Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


# The argument is the value.
_LITERALS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": _push(lambda machine, _: None),
    "NEWTRUE": _push(lambda machine, _: True),
    "NEWFALSE": _push(lambda machine, _: False),
    "MARK": lambda machine, _: machine.mark(),
    "POP_MARK": lambda machine, _: machine.drop_marked(),
    "POP": lambda machine, _: machine.pop_or_unmark(),
    "DUP": _push(lambda machine, _: machine.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _push(lambda machine, index: machine.memo[index])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": _push(lambda machine, _: tuple(machine.marked())),
    "EMPTY_LIST": _push(lambda machine, _: []),
    "LIST": _push(lambda machine, _: machine.marked()),
    "APPEND": _fill_one(lambda target, value: _fill_list(target, [value])),
    "APPENDS": _fill_marked(_fill_list),
    "EMPTY_DICT": _push(lambda machine, _: {}),
    "DICT": _dict_of_marked,
    "SETITEM": _set_item,
    "SETITEMS": _fill_marked(_fill_dict),
    "EMPTY_SET": _push(lambda machine, _: set()),
    "ADDITEMS": _fill_marked(_fill_set),
    "FROZENSET": _frozen_set,
    "BUILD": _fill_one(_set_state),
    "GLOBAL": _push(lambda machine, argument: machine.named(*argument.split(" ", 1))),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _make,
    "NEWOBJ": _make,
    "NEWOBJ_EX": _make_with_keywords,
    "INST": _instance,
    "OBJ": _instance,
    "BINPERSID": _persistent,
}
