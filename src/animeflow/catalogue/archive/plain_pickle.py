"""Pickles that hold data and nothing else: dicts, lists, tuples, text, bytes, whole numbers. Knows opcodes; runs nothing.

Python's own unpickler is a small machine that calls what a file names. This one has no opcode that could call, import or look up
anything: a pickle with one of those is refused at that opcode. Two spellings of bytes look like calls and are read as what they
say: Python 3 writes bytes so for Python 2. What one may cost is bounded by opcodes, depth and memory slots.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

from .caps import BrokenArchive

NUMBERS = frozenset(["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"])
TEXT = frozenset(["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"])
CONSTANTS = NUMBERS | TEXT | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
OLD_TEXT = frozenset(["STRING", "BINSTRING", "SHORT_BINSTRING"])  # of Python 2: bytes that nobody gave an encoding
CALLS = frozenset(
    [
        *("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"),
        *("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"),
    ]
)
PROTOCOL = 5  # the newest there is
MAX_STACK = 100_000
MAX_DIGITS = 40  # of a number: offsets have 16
# Protocol 2 has no bytes: Python 3 writes b"" as `__builtin__.bytes()` and others as `_codecs.encode(TEXT, "latin1")`.
NO_BYTES, ENCODED = "__builtin__ bytes", "_codecs encode"
_MARK = object()


@dataclass(frozen=True)
class _Spelled:
    """What such bytes begin with. Nothing is looked up by it."""

    name: str


def loads(data: bytes, *, where: str, max_opcodes: int) -> Any:
    """The value that a pickle of plain data says.

    Raises:
        BrokenArchive: it is cut or garbled, would call something, or is larger than `max_opcodes`.
    """
    machine = _Machine(where)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number >= max_opcodes:
                raise _refused(where, f"over {max_opcodes:,} steps", "no index of an archive is as long")
            if machine.step(opcode.name, argument):
                return machine.value()
    except BrokenArchive:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise _refused(where, "garbled or cut", str(error)[:160] or type(error).__name__) from error
    raise _refused(where, "cut", "it has no end")


class _Machine:
    """The stack and the memory. A `step` gives True at the end."""

    def __init__(self, where: str) -> None:
        self.where, self.stack, self.memory = where, [], {}  # type: str, list[Any], dict[int, Any]

    def value(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise ValueError("its end leaves other than one value")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> bool:
        if name == "GLOBAL" and argument in (NO_BYTES, ENCODED):
            self.stack.append(_Spelled(argument))
        elif name == "REDUCE" and len(self.stack) > 1 and isinstance(self.stack[-2], _Spelled):
            self.spell()
        elif name in CALLS:
            raise _refused(
                self.where, f"it would run code ({name}{'' if argument is None else f' {str(argument)[:80]!r}'})",
                "the index of an archive holds names and numbers only; this file may be meant to do harm",
            )  # fmt: skip
        elif name == "PROTO" and argument > PROTOCOL:
            raise ValueError(f"pickle protocol {argument}")
        elif name in CONSTANTS:
            if isinstance(argument, int) and abs(argument) >= 10**MAX_DIGITS:
                raise ValueError("a number too large for any file")
            self.stack.append(argument)
        elif name in OLD_TEXT:
            self.stack.append(argument.encode("latin-1"))
        else:
            done = _STEPS.get(name)
            if done is None:
                raise _refused(self.where, f"it uses {name}", "the index of an archive has no need of it")
            if done(self, argument):
                return True
        if len(self.stack) > MAX_STACK:
            raise ValueError("its stack is too deep")
        return False

    def spell(self) -> None:
        """Put bytes in the place of how protocol 2 spells them."""
        how, said = self.pop(2)
        match said:
            case () if how.name == NO_BYTES:
                self.stack.append(b"")
            case (str(text), "latin1") if how.name == ENCODED:
                self.stack.append(text.encode("latin-1"))
            case _:
                raise ValueError("a spelling of bytes that is none")

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count or any(value is _MARK for value in self.stack[len(self.stack) - count :]):
            raise ValueError("too few values")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"not a {kind.__name__} to put values into")
        return self.stack[-1]

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def fill(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise ValueError("a key without a value")
        target = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | bytes | int):  # a tuple's hash may take as long as its nesting is deep
                raise ValueError("a key that is no text")
            target[key] = value

    def fill_new(self, values: list[Any]) -> None:
        self.push({})
        self.fill(values)

    def get(self, key: Any) -> None:
        self.stack.append(self.memory[int(key)])

    def put(self, key: Any) -> None:
        if self.stack[-1] is _MARK:
            raise ValueError("a mark is kept")
        self.memory[int(key)] = self.stack[-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)


_STEPS: dict[str, Any] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "STOP": lambda m, a: True,
    "MARK": lambda m, a: m.push(_MARK),
    "NONE": lambda m, a: m.push(None),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "TUPLE1": lambda m, a: m.push(tuple(m.pop(1))),
    "TUPLE2": lambda m, a: m.push(tuple(m.pop(2))),
    "TUPLE3": lambda m, a: m.push(tuple(m.pop(3))),
    "TUPLE": lambda m, a: m.push(tuple(m.since_mark())),
    "LIST": lambda m, a: m.push(list(m.since_mark())),
    "DICT": lambda m, a: m.fill_new(m.since_mark()),
    "APPEND": lambda m, a: m.extend(m.pop(1)),
    "APPENDS": lambda m, a: m.extend(m.since_mark()),
    "SETITEM": lambda m, a: m.fill(m.pop(2)),
    "SETITEMS": lambda m, a: m.fill(m.since_mark()),
    "MEMOIZE": lambda m, a: m.put(len(m.memory)),
    "GET": lambda m, a: m.get(a),
    "BINGET": lambda m, a: m.get(a),
    "LONG_BINGET": lambda m, a: m.get(a),
    "PUT": lambda m, a: m.put(a),
    "BINPUT": lambda m, a: m.put(a),
    "LONG_BINPUT": lambda m, a: m.put(a),
}


def _refused(where: str, what: str, why: str) -> BrokenArchive:
    return BrokenArchive(
        f"the index of this archive is not one: {what}",
        where=where,
        why=why,
        do="take the archive from where it was made",
    )
