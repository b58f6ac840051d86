"""Reads a pickle of plain data; nothing in it is run.

Python's own unpickler imports and calls whatever a file names. This one has no way to
import or to set an attribute: it knows the opcodes that data are made of, looks a
global up in a table of its caller's, and calls functions of that table only. Objects of
what is not in the table become placeholders, and what they are made of is dropped.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rad_jax.weight_files.bad_file import BadFile
from rad_jax.weight_files.pickle_machine import OPCODES, Machine, unknown_opcode

MAX_BYTES = 8 * 2**20
"""Longest pickle: a byte can become a hundred in memory. ADM's have 100 kB."""

FREE_WORK = 10_000
"""Items that even a tiny pickle may repeat."""


class Unpickled(NamedTuple):
    """What a pickle holds.

    Attributes:
      value: the object.
      skipped: names of the globals that placeholders stand for.
      model: class of the last whole model that was skipped, the outermost one; or None.
    """

    value: Any
    skipped: tuple[str, ...] = ()
    model: str | None = None


def unpickle(
    file: io.BytesIO,
    table: Mapping[tuple[str, str], Any],
    persistent: Callable[[Any], Any],
) -> Unpickled:
    """The object of the pickle that starts here; the file is left behind its end.

    Args:
      file: at most `MAX_BYTES` of a file.
      table: what stands for each global (module, name) that may occur; a `Function`
        may be called, anything else is a value.
      persistent: what stands for a persistent identifier.

    Returns:
      Dictionaries (with str or small int keys), lists, tuples, numbers, text,
      placeholders, and what `table` and `persistent` gave. It may contain itself, and
      may be deep.

    Raises:
      BadFile: naming the first thing that is neither plain data nor harmless to skip.
    """
    work = len(file.getbuffer()) + FREE_WORK
    machine = Machine(table, persistent, work)
    try:
        while True:
            name, read = _BY_CODE[file.read(1)]
            if name == "STOP":
                value = machine.stack.pop()
                return Unpickled(value, tuple(machine.skipped), machine.model)
            if name not in OPCODES:
                raise unknown_opcode(name)
            OPCODES[name](machine, read(file))
    # A stack or memo without what is asked of it, an argument that is cut short, ...
    except (IndexError, KeyError, ValueError, OverflowError) as error:
        text = "has a pickle that is damaged or cut short; get the file again"
        raise BadFile(text) from error


def _read_names(file: io.BytesIO) -> tuple[str, str]:
    """Module and name, as Python reads them; pickletools undoes escapes in them."""
    module, name = file.readline(), file.readline()
    if not name.endswith(b"\n"):
        raise ValueError("cut short")
    return module[:-1].decode(), name[:-1].decode()


_BY_CODE: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    opcode.code.encode("latin-1"): (
        opcode.name,
        opcode.arg.reader if opcode.arg else lambda _: None,
    )
    for opcode in pickletools.opcodes
}
for _code, _name in ((b"c", "GLOBAL"), (b"i", "INST")):
    _BY_CODE[_code] = _name, _read_names
