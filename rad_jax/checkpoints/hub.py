"""Models of the Hugging Face Hub: fetched into its cache, read as any folder.

What a repository holds is anybody's: of it only a model folder and its card are
fetched, no other weights and no programs, and the reader takes nothing on trust.
"""

import contextlib
import importlib.util
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rad_jax.checkpoints.model_folder import FOLDERS, RECORD
from rad_jax.errors import UserError, first_line
from rad_jax.files.bucket import AnyPath, folder_at
from rad_jax.files.hub_address import HubAddress, is_hub, parse
from rad_jax.runtime.distributed import say

CARD = "README.md"
"""The model card's file, by the Hub's rule."""

NEVER = ("*..*", "*.py", "*.pkl", "*.pickle", "*.pt", "*.pth", "*.bin", "*.ckpt")
"""What is not fetched, whatever folder it is in."""

WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz")
LOG_IN = "log in (hf auth login, or the variable HF_TOKEN)"
WAIT = {"connect": 20.0, "read": 120.0, "write": 120.0}
"""Seconds that a connection, the next bytes of an answer and of a request may take."""

SHOWN = 3
"""Names of files that a message has, at most."""


def model_at(place: str | AnyPath) -> AnyPath:
    """The folder of a model: on this machine, in a bucket, or fetched from the Hub.

    Raises:
      UserError: the place is none, or cannot be reached.
    """
    if isinstance(place, str) and is_hub(place):
        return fetch(parse(place))[1]
    return folder_at(place)


def pinned(place: str | AnyPath) -> str | AnyPath:
    """The place; of the Hub, with the commit that it is now, which is fetched.

    Raises:
      UserError: as `model_at`.
    """
    if isinstance(place, str) and is_hub(place):
        return str(fetch(parse(place))[0])
    return place


def fetch(address: HubAddress) -> tuple[HubAddress, Path]:
    """Fetches the folder of a model into the Hub's cache.

    What is in the cache is not fetched again; of a commit the Hub is not even asked.
    Of what is no commit it is said which commit it was.

    Returns:
      The address with its commit, and the folder.

    Raises:
      UserError: the Hub cannot be reached and the cache does not hold it, there is no
        such repository or revision, it is not for us, or it holds no model.
    """
    with hub_errors(address):
        from huggingface_hub import snapshot_download

        within = f"{address.folder}/" if address.folder else ""
        wanted = [f"{within}{name}" for name in (RECORD, CARD)]
        wanted += [f"{within}{name}/*" for name in FOLDERS]
        snapshot = snapshot_download(
            address.repo,
            revision=address.revision,
            allow_patterns=wanted,
            ignore_patterns=list(NEVER),
        )
    found = address._replace(revision=Path(snapshot).name)
    folder = Path(snapshot) / address.folder
    if not (folder / RECORD).is_file():
        raise UserError(f"{address}: {_no_model(found)}")
    if not address.pinned:
        say(f"{address} is {found}")
    return found, folder


@contextlib.contextmanager
def naming_hub(place: str | AnyPath) -> Iterator[None]:
    """Begins errors of reading with the address, if it is one of the Hub.

    Else they would name a folder of the cache alone.
    """
    try:
        yield
    except UserError as error:
        if not is_hub(place) or str(error).startswith(str(place)):
            raise
        raise UserError(f"{place}: {error}") from error


def require_hub(place: object) -> None:
    """Refuses to go on without the library; ``place`` begins the message.

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            f"{place}: the Hub needs huggingface_hub: pip install 'rad-jax[hub]'"
        )


@contextlib.contextmanager
def hub_errors(address: HubAddress) -> Iterator[None]:
    """Around what asks the Hub: what goes wrong is one line, and nothing is logged.

    Raises:
      UserError: naming the address and how to mend it.
    """
    require_hub(address)
    try:
        with _quiet():
            yield
    except UserError:
        raise
    # The libraries below raise dozens of kinds of errors.
    except Exception as error:
        raise UserError(f"{address}: {_told(error, address)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library logs nothing, shows bars on a terminal alone, and waits not for ever.

    Most of its requests would.
    """
    from huggingface_hub import utils

    def bound(request: Any) -> None:
        timeouts = request.extensions.get("timeout", {})
        given = {name: x for name, x in timeouts.items() if x is not None}
        request.extensions["timeout"] = timeouts | WAIT | given

    session = utils.get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "request": [*hooks.get("request", []), bound]}
    verbosity = utils.logging.get_verbosity()
    bars = not (utils.are_progress_bars_disabled() or sys.stderr.isatty())
    utils.logging.set_verbosity(logging.CRITICAL)
    if bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        session.event_hooks = hooks
        utils.logging.set_verbosity(verbosity)
        if bars:
            utils.enable_progress_bars()


def _told(error: Exception, address: HubAddress) -> str:
    """What went wrong and how to mend it."""
    from huggingface_hub import constants, errors

    error = _cause(error)
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{address.repo}"
        return f"is gated; ask for access on {page} and {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such repository, or a private one; check the name, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "has no such revision; give a branch, a tag or a commit of it"
    if constants.is_offline_mode():
        return (
            f"is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is "
            "set; unset it to fetch it once"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error.response.status_code, error.server_message or "")
    if isinstance(error, OSError) and error.errno is not None:
        place = error.filename or constants.HF_HUB_CACHE
        return f"a file cannot be used ({error.strerror}: {place}); check the disk"
    if isinstance(error, ValueError):  # the library's own checks of what it was told
        return f"is refused ({_reason(error)})"
    network = isinstance(error, OSError) or "http" in type(error).__module__
    if not network:
        return f"the Hub's library fails ({type(error).__name__}: {_reason(error)})"
    return f"the Hub cannot be reached ({_reason(error)}); check the network"


def _cause(error: Exception) -> Exception:
    """The answer or the failure of the network that an error is about, if it is."""
    from huggingface_hub.errors import HfHubHTTPError

    found: BaseException | None = error
    while isinstance(found, Exception):
        if isinstance(found, HfHubHTTPError) or "httpx" in type(found).__module__:
            return found
        found = found.__cause__
    return error


def _answered(status: int, message: str) -> str:
    """Of an answer of the Hub that is an error."""
    said = f"{status}{': ' * bool(message)}{message}"[:200].replace("\n", " ")
    if status == 401:
        return f"the Hub does not take your token ({said}); {LOG_IN} again"
    if status == 403:
        return f"your token may not do that ({said}); {LOG_IN} with one that may"
    return f"the Hub answers with an error ({said}); try again later"


def _reason(error: BaseException) -> str:
    """A line of an error, without what addresses may carry of keys."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or first_line(error)
    return re.sub(r"\?\S+", "?...", text)[:200]


def _no_model(address: HubAddress) -> str:
    """Why there is no model at an address that was fetched, and what to do."""
    names = _names(address)
    text = f"holds no model folder (no {RECORD})"
    if not names:
        return f"{text}; check the name"
    within = [name for name in names if name.endswith(f"/{RECORD}")]
    if within:
        there = address._replace(folder=within[0].removesuffix(f"/{RECORD}"))
        return f"{text}; there is one at {there}"
    weights = [name for name in names if name.endswith(WEIGHTS)]
    shown = ", ".join((weights or names)[:SHOWN])
    more = ", ..." if len(weights or names) > SHOWN else ""
    if not weights:
        return f"{text}, but {shown}{more}; check the name"
    diffusers = any(name.endswith("config.json") for name in names)
    source = "DIR" if diffusers else f"DIR/{weights[0]}"
    return (
        f"{text}, but {shown}{more}; to make one: hf download {address.repo} "
        f"--local-dir DIR, then rad-jax convert --input {source} --output FOLDER"
    )


def _names(address: HubAddress) -> Sequence[str]:
    """Names of the files of a repository, made harmless; none if it is not reached."""
    try:
        with hub_errors(address):
            from huggingface_hub import HfApi

            names = HfApi().list_repo_files(address.repo, revision=address.revision)
    except UserError:
        return []
    return sorted(re.sub(r"[^\w./-]", "?", name)[:80] for name in names)
