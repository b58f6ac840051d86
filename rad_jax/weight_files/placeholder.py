"""Objects of a pickle that are not weights: what stands for them, and what is refused.

Checkpoints hold more than weights: settings, an optimiser, numbers of NumPy. None of
these is needed, so none is made. What is named only to do harm is refused: it could do
none here, but whoever has such a file should know.
"""

import dataclasses
from collections.abc import Container

HARMFUL = frozenset(
    (
        *("_io", "_pickle", "_posixsubprocess", "_socket", "_thread", "asyncio", "bdb"),
        *("cProfile", "cloudpickle", "code", "codeop", "commands", "concurrent"),
        *("ctypes", "dill", "distutils", "doctest", "ensurepip", "ftplib", "gc"),
        *("http", "imp", "importlib", "inspect", "io", "joblib", "linecache"),
        *("marshal", "mmap", "multiprocessing", "nt", "ntpath", "operator", "os"),
        *("pdb", "pickle", "pip", "pkgutil", "platform", "popen2", "posix"),
        *("posixpath", "profile", "pty", "requests", "resource", "runpy"),
        *("setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket"),
        *("socketserver", "ssl", "subprocess", "sys", "sysconfig", "tempfile"),
        *("threading", "timeit", "trace", "urllib", "venv", "webbrowser", "zipimport"),
    )
)
"""Modules that no checkpoint of weights names."""

BUILTINS = ("__builtin__", "builtins")
PLAIN_BUILTINS = frozenset(
    (
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset"),
        *("int", "list", "long", "object", "range", "set", "slice", "str", "tuple"),
        *("unicode", "xrange"),
    )
)
"""What checkpoints do name of Python's own; all else there would be an attack."""

CODE = ("BuiltinFunctionType", "CodeType", "FunctionType", "MethodType")
"""What only an attack names of the module types."""


@dataclasses.dataclass(frozen=True, eq=False)
class Placeholder:
    """What stands for a class, a function or an object that is passed over.

    Attributes:
      name: of the global, with its module.
    """

    name: str


SCRIPT = "__torch__"
"""Module of the classes that a TorchScript file has the code of."""


@dataclasses.dataclass(frozen=True, eq=False)
class ScriptClass:
    """What stands for a class of TorchScript; its code is not looked at."""


@dataclasses.dataclass(eq=False, slots=True)
class ScriptObject:
    """What stands for an object of such a class: its attributes, and nothing else.

    Attributes:
      state: by name; None before the file sets it.
    """

    state: dict | None = None


def is_harmful(module: str, name: str, known: Container[tuple[str, str]]) -> bool:
    """Whether a global is one that only an attack names.

    Args:
      module: where it is, dotted.
      name: what it is called there; dotted, if it is an attribute of something.
      known: (module, name) of what a file may use; attributes of these it may not.
    """
    parts = name.split(".")
    if module in BUILTINS:
        return name not in PLAIN_BUILTINS
    if module == "types" and parts[0] in CODE:
        return True
    if not all(part.isidentifier() for part in (*module.split("."), *parts)):
        return True
    # A module may be reached by way of another one that imports it.
    if HARMFUL.intersection((module.partition(".")[0], *parts[:-1])):
        return True
    if any(part.startswith("__") for part in parts):
        return True
    return len(parts) > 1 and (module, parts[0]) in known
