"""Reads a pickle of plain data; nothing in it is run.

Python's own unpickler imports and calls whatever a file names. This one has no way to
import or to set an attribute: it knows the opcodes that data are made of, looks a
global up in a table of its caller's, and calls functions of that table only.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rad_jax.weight_files.lazy_array import BadFile

MAX_BYTES = 8 * 2**20
"""Longest pickle: a byte can become a hundred in memory. ADM's have 100 kB."""

MAX_INT_KEY = 2**31
"""Larger integers could be chosen so that a dictionary takes forever to fill."""


class Function(NamedTuple):
    """What a file may call: a pure function of the tuple of arguments it gives."""

    call: Callable[[tuple], Any]


class _Machine:
    """The stack machine that a pickle is a program of."""

    def __init__(
        self,
        table: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any],
    ):
        self.table = table
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop_items(self) -> list[Any]:
        """What was pushed after the last mark."""
        items, self.stack = self.stack, self.marked.pop()
        return items


def unpickle(
    file: io.BytesIO,
    table: Mapping[tuple[str, str], Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """The object of the pickle that starts here; the file is left behind its end.

    Args:
      file: at most `MAX_BYTES` of a file.
      table: what stands for each global (module, name) that may occur; a `Function`
        may be called, anything else is a value.
      persistent: what stands for a persistent identifier.

    Returns:
      Dictionaries (with str or small int keys), lists, tuples, numbers, text, and what
      `table` and `persistent` gave. It may contain itself, and may be deep.

    Raises:
      BadFile: naming the first thing that is not plain data.
    """
    machine = _Machine(table, persistent)
    try:
        while True:
            name, read = _BY_CODE[file.read(1)]
            if name == "STOP":
                return machine.stack.pop()
            if name not in _OPCODES:
                raise BadFile(
                    f"has a pickle with the opcode {name}: refused; plain weights do "
                    "without"
                )
            _OPCODES[name](machine, read(file))
    # A stack or memo without what is asked of it, an argument that is cut short, ...
    except (IndexError, KeyError, ValueError, OverflowError) as error:
        text = "has a pickle that is damaged or cut short; get the file again"
        raise BadFile(text) from error


def shown(name: object) -> str:
    """A name from a hostile file, fit for a terminal."""
    text = ascii(name)[1:-1]
    return text if len(text) <= 80 else f"{text[:80]}..."


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _tuple(size: int) -> Callable[[_Machine, Any], None]:
    def run(machine: _Machine, _: Any) -> None:
        stack = machine.stack
        if len(stack) < size:
            raise IndexError
        start = len(stack) - size
        stack[start:] = [tuple(stack[start:])]

    return run


def _mark(machine: _Machine, _: Any) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _append(machine: _Machine, items: list[Any]) -> None:
    if type(machine.stack[-1]) is not list:
        raise BadFile("wants to change an object: refused")
    machine.stack[-1].extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    if type(machine.stack[-1]) is not dict:
        raise BadFile("wants to change an object: refused")
    fill(machine.stack[-1], zip(items[::2], items[1::2], strict=True))


def fill(target: dict, pairs: Any) -> None:
    """Sets items of a dictionary; keys are such that this is safe and fast.

    Hashing a deep tuple would crash Python, and hash values of numbers can be chosen.
    """
    for key, value in pairs:
        small = type(key) is int and abs(key) < MAX_INT_KEY
        if not small and type(key) is not str:
            raise BadFile("has a dictionary whose keys are not names")
        target[key] = value


def _read_names(file: io.BytesIO) -> tuple[str, str]:
    """Module and name, as Python reads them; pickletools undoes escapes in them."""
    module, name = file.readline(), file.readline()
    if not name.endswith(b"\n"):
        raise ValueError("cut short")
    return module[:-1].decode(), name[:-1].decode()


def _global(machine: _Machine, names: tuple[Any, Any]) -> None:
    if not all(type(name) is str for name in names):
        raise ValueError("a global without a name")
    if names not in machine.table:
        raise BadFile(f"wants to run {shown('.'.join(names))}: refused")
    machine.stack.append(machine.table[names])


def _instance(machine: _Machine, names: tuple[str, str]) -> None:
    raise BadFile(f"wants to run {shown('.'.join(names))}: refused")


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    _global(machine, (module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if type(function) is not Function or type(arguments) is not tuple:
        raise BadFile("wants to call what is no function: refused")
    machine.stack.append(function.call(arguments))


def _build(machine: _Machine, _: Any) -> None:
    machine.stack.pop()
    # The attributes of a state dict (`_metadata`) are passed over.
    if type(machine.stack[-1]) is not dict:
        raise BadFile("wants to set attributes of an object: refused")


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


_BY_CODE: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    opcode.code.encode("latin-1"): (
        opcode.name,
        opcode.arg.reader if opcode.arg else lambda _: None,
    )
    for opcode in pickletools.opcodes
}
for _code, _name in ((b"c", "GLOBAL"), (b"i", "INST")):
    _BY_CODE[_code] = _name, _read_names

_OPCODES: dict[str, Callable[[_Machine, Any], Any]] = {
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
    "REDUCE": _reduce,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: _push(
        machine, machine.persistent(machine.stack.pop())
    ),
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "BINGET": lambda machine, index: _push(machine, machine.memo[index]),
    "LONG_BINGET": lambda machine, index: _push(machine, machine.memo[index]),
}
