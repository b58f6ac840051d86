"""The machine that a pickle is a program of, and the opcodes that data are made of.

What it builds is bounded by the size of the pickle: an opcode takes a byte at least and
adds one item, and what may cost more than that is counted.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.placeholder import (
    SCRIPT,
    Placeholder,
    ScriptClass,
    ScriptObject,
    is_harmful,
)

SCRIPT_CLASS = ScriptClass()
"""All of them: their names are not needed."""

MAX_INT_KEY = 2**31
"""Larger integers could be chosen so that a dictionary takes forever to fill."""


class Function(NamedTuple):
    """What a file may call: a pure function of the tuple of arguments it gives.

    Its work is at most linear in the lengths of the arguments.
    """

    call: Callable[[tuple], Any]


@dataclasses.dataclass(eq=False)
class Machine:
    """Stack, marks and memo, and what was skipped.

    Attributes:
      table: what stands for each global; see `safe_unpickle.unpickle`.
      persistent: what stands for a persistent identifier.
      work: how many items may still be gone through a second time.
      stack: what lies above the last mark.
      marked: the stacks below each mark.
      memo: objects that the pickle names by number.
      skipped: the placeholders, by name.
      model: class of the last whole model that was skipped.
    """

    table: Mapping[tuple[str, str], Any]
    persistent: Callable[[Any], Any]
    work: int
    stack: list[Any] = dataclasses.field(default_factory=list)
    marked: list[list[Any]] = dataclasses.field(default_factory=list)
    memo: dict[int, Any] = dataclasses.field(default_factory=dict)
    skipped: dict[str, Placeholder] = dataclasses.field(default_factory=dict)
    model: str | None = None

    def pop_items(self) -> list[Any]:
        """What was pushed after the last mark."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def placeholder(self, name: str) -> Placeholder:
        """What stands for a global: always the same, so that many take no memory."""
        return self.skipped.setdefault(name, Placeholder(name))

    def count(self, values: Iterable[Any]) -> None:
        """Counts the work of going through values that the memo may have repeated."""
        sized = (list, tuple, dict, str, bytes)
        self.work -= sum(len(value) for value in values if isinstance(value, sized))
        if self.work < 0:
            raise BadFile("has a pickle that builds far more than it holds: refused")


def unknown_opcode(opcode: str) -> BadFile:
    """The refusal of one that weights do without."""
    return BadFile(
        f"has a pickle with the opcode {opcode}: refused; plain weights do without"
    )


def _push(machine: Machine, value: Any) -> None:
    machine.stack.append(value)


def _tuple(size: int) -> Callable[[Machine, Any], None]:
    def run(machine: Machine, _: Any) -> None:
        stack = machine.stack
        if len(stack) < size:
            raise IndexError
        start = len(stack) - size
        stack[start:] = [tuple(stack[start:])]

    return run


def _mark(machine: Machine, _: Any) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _to_change(machine: Machine, kind: type) -> Any:
    """The object that is added to, of a kind that may be; None of what is skipped."""
    target = machine.stack[-1]
    if type(target) is Placeholder:
        return None
    if type(target) is not kind:
        raise BadFile("wants to change an object: refused")
    return target


def _append(machine: Machine, items: list[Any]) -> None:
    if (target := _to_change(machine, list)) is not None:
        target.extend(items)


def _set_items(machine: Machine, items: list[Any]) -> None:
    target = _to_change(machine, dict)
    if target is None:
        return
    fill(target, zip(items[::2], items[1::2], strict=True))


def fill(target: dict, pairs: Any) -> None:
    """Sets items of a dictionary; keys are such that this is safe and fast.

    Hashing a deep tuple would crash Python, and hash values of numbers can be chosen.
    What no weights are called is dropped.
    """
    for key, value in pairs:
        if key is None or type(key) in (bool, float, bytes, Placeholder):
            continue
        small = type(key) is int and -MAX_INT_KEY < key < MAX_INT_KEY
        if not small and type(key) is not str:
            raise BadFile("has a dictionary whose keys are not names")
        target[key] = value


def _global(machine: Machine, names: tuple[Any, Any]) -> None:
    if not all(type(name) is str for name in names):
        raise ValueError("a global without a name")
    machine.count(names)
    if names in machine.table:
        machine.stack.append(machine.table[names])
    elif is_harmful(*names, machine.table):
        raise BadFile(f"wants to run {shown('.'.join(names))}: refused")
    elif names[0].partition(".")[0] == SCRIPT:
        machine.stack.append(SCRIPT_CLASS)
    else:
        machine.stack.append(machine.placeholder(".".join(names)))


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    _global(machine, (module, name))


def _instance(machine: Machine, names: tuple[str, str]) -> None:
    """Makes an object of a class and what lies above the mark."""
    if names in machine.table:
        raise BadFile(f"wants to run {shown('.'.join(names))}: refused")
    machine.pop_items()
    _global(machine, names)


def _object(machine: Machine, _: Any) -> None:
    """The same, of a class that lies above the mark."""
    made = machine.pop_items()[0]
    if type(made) is not Placeholder:
        raise unknown_opcode("OBJ")
    machine.stack.append(made)


def _new_object(opcode: str, arguments: int) -> Callable[[Machine, Any], None]:
    """An opcode that makes an object of a class and so many arguments."""

    def run(machine: Machine, _: Any) -> None:
        for _ in range(arguments):
            machine.stack.pop()
        if type(machine.stack[-1]) is ScriptClass:
            machine.stack[-1] = ScriptObject()
        elif type(machine.stack[-1]) is not Placeholder:
            raise unknown_opcode(opcode)

    return run


def _reduce(machine: Machine, _: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if type(function) is Placeholder:
        machine.stack.append(function)
        return
    if type(function) is not Function or type(arguments) is not tuple:
        raise BadFile("wants to call what is no function: refused")
    machine.count([arguments])
    machine.count(arguments)
    machine.stack.append(function.call(arguments))


def _build(machine: Machine, _: Any) -> None:
    attributes = machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is ScriptObject:
        # Any other state is of a class that would read it by code of its own.
        target.state = attributes if type(attributes) is dict else None
        return
    # Those of a state dict (`_metadata`) are passed over, too.
    if type(target) not in (dict, Placeholder):
        raise BadFile("wants to set attributes of an object: refused")
    is_model = (
        type(attributes) is dict and {"_parameters", "_modules"} <= attributes.keys()
    )
    if type(target) is Placeholder and is_model:
        machine.model = target.name


def _persistent(machine: Machine, _: Any) -> None:
    identifier = machine.stack.pop()
    machine.count([identifier])
    if type(identifier) is tuple:
        machine.count(identifier)
    _push(machine, machine.persistent(identifier))


def _set(machine: Machine, _: Any) -> None:
    """Weights are in no sets."""
    _push(machine, machine.placeholder("set"))


def _frozen_set(machine: Machine, _: Any) -> None:
    machine.pop_items()
    _set(machine, None)


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


OPCODES: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "LONG1", "LONG4"], _push),
    **dict.fromkeys(["BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"], _push),
    **dict.fromkeys(["BINBYTES", "SHORT_BINBYTES", "BINBYTES8"], _push),
    **dict.fromkeys(["BINSTRING", "SHORT_BINSTRING", "BINFLOAT"], _push),
    "EMPTY_TUPLE": _tuple(0),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.pop_items())),
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "MARK": _mark,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_items(),
    "APPEND": lambda machine, _: _append(machine, [machine.stack.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_items()),
    "SETITEM": lambda machine, _: _set_items(
        machine, [machine.stack.pop(), machine.stack.pop()][::-1]
    ),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_items()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _instance,
    "OBJ": _object,
    "NEWOBJ": _new_object("NEWOBJ", 1),
    "NEWOBJ_EX": _new_object("NEWOBJ_EX", 2),
    "REDUCE": _reduce,
    "BUILD": _build,
    "EMPTY_SET": _set,
    "ADDITEMS": lambda machine, _: _append(machine, machine.pop_items()),
    "FROZENSET": _frozen_set,
    "BINPERSID": _persistent,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "BINGET": lambda machine, index: _push(machine, machine.memo[index]),
    "LONG_BINGET": lambda machine, index: _push(machine, machine.memo[index]),
}
