"""What a command compiles is kept on disk, and the next one finds it.

JAX's persistent compilation cache, which is off unless one asks for it. The commands
ask; a program that imports the library decides for itself.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import filelock
import jax

from rad_jax.errors import first_line
from rad_jax.files.paths import cache_home

SETTINGS = {
    # Bytes; the least recently used go first.
    "jax_compilation_cache_max_size": 2 * 1024**3,
    # Seconds; by default JAX keeps what took one, and a command compiles many small
    # programs beside the large one.
    "jax_persistent_cache_min_compile_time_secs": 0.0,
}
"""Those of JAX, where the environment does not say otherwise."""

WRITING = "Error writing persistent compilation cache entry"
"""How JAX's warning begins."""


def enable_compilation_cache() -> None:
    """Makes JAX keep what it compiles, in ``$XDG_CACHE_HOME/rad_jax/compiled``.

    To be called before JAX compiles. JAX's own variables come first: with
    JAX_COMPILATION_CACHE_DIR the folder and its size are the user's, and with
    JAX_ENABLE_COMPILATION_CACHE=false there is none. Nor is there in a run of several
    processes: only the first one writes, each host has a folder of its own, and on GPUs
    a process that compiles waits for others that do not (openxla/xla issue 7716).

    Where the folder cannot be used, or a program cannot be written there, one line on
    stderr says so.
    """
    config: Any = jax.config
    if not config.jax_enable_compilation_cache or jax.process_count() > 1:
        return
    if config.jax_compilation_cache_dir is not None:
        return
    try:
        folder = cache_home() / "compiled"
        _prepare(folder)
    except (KeyError, OSError, RuntimeError) as error:
        _say_not_kept(first_line(error))
        return
    for name, value in SETTINGS.items():
        if name.upper() not in os.environ:
            config.update(name, value)
    config.update("jax_compilation_cache_dir", str(folder))
    _warn_once()


def _say_not_kept(reason: str) -> None:
    print(
        f"rad-jax: what is compiled is not kept ({reason}); set "
        "JAX_COMPILATION_CACHE_DIR to a folder that can be written",
        file=sys.stderr,
    )


def _warn_once() -> None:
    """Makes one line of what JAX warns of every program that it cannot write."""
    shown, said = warnings.showwarning, []

    def show(message: Warning | str, *others: Any) -> None:
        if not str(message).startswith(WRITING):
            shown(message, *others)
        elif not said:
            said.append(message)
            _say_not_kept(str(message).rpartition("': ")[2] or WRITING)

    warnings.showwarning = show


def _prepare(folder: Path) -> None:
    """Makes the folder, and removes what was left half-written.

    JAX writes an entry, then when it was last used; it neither replaces an entry whose
    writing was cut off nor copes with one that lacks its time.

    Raises:
      OSError: the folder cannot be written, or files in it cannot be locked.
      KeyError: its owner has no name.
    """
    # Private: what lies there is executed.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.owner()  # JAX 0.10 asks that of every entry, and warns as often
    try:
        with filelock.FileLock(folder / ".lockfile", timeout=1):  # JAX's
            for entry in folder.glob("*-cache"):
                used = entry.with_name(f"{entry.name.removesuffix('-cache')}-atime")
                if not used.exists():
                    entry.unlink()
    except filelock.Timeout:  # another process is writing
        pass
