"""Addresses of the Hugging Face Hub as people write them; importable without JAX.

`hf://owner/name[@revision][/folder]`, the order that the Hub's own programs have.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from rad_jax.errors import UserError

SCHEME = "hf://"
FORM = "hf://owner/name, hf://owner/name@revision or hf://owner/name@revision/folder"

_REPO = re.compile(r"(?=.{1,96}\Z)[A-Za-z0-9][\w.-]*/\w(?:[\w.-]*\w)?", re.ASCII)
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubAddress(NamedTuple):
    """A folder of a repository of models.

    Attributes:
      repo: owner and name.
      revision: a branch, a tag or a commit; None for the repository's main one.
      folder: where in it; "" for its top.
    """

    repo: str
    revision: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        """As people write it."""
        at = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return f"{SCHEME}{self.repo}{at}{'/' * bool(self.folder)}{self.folder}"

    @property
    def pinned(self) -> bool:
        """Whether it means the same for ever: its revision is a commit."""
        return self.revision is not None and bool(_COMMIT.fullmatch(self.revision))


def is_hub(place: object) -> bool:
    """Whether a place is meant as an address of the Hub."""
    return isinstance(place, str) and place.startswith(SCHEME)


def parse(text: str) -> HubAddress:
    """Takes an address apart.

    Raises:
      UserError: it is none.
    """
    parts = text.removeprefix(SCHEME).rstrip("/").split("/", 2)
    if len(parts) < 2:
        raise UserError(f"{text}: names no repository; give {FORM}")
    name, at, revision = parts[1].partition("@")
    repo, revision = f"{parts[0]}/{name}", unquote(revision)
    folder = parts[2] if len(parts) > 2 else ""
    if not is_repo(repo):
        raise UserError(f"{text}: {repo} is no name of a repository; give {FORM}")
    if at and not _is_path(revision):
        raise UserError(
            f"{text}: {revision!r} is no revision; give a branch, a tag or a commit "
            "(%2F for a slash in it)"
        )
    if folder and not _is_path(folder):
        hint = "the revision comes before the folder; " if "@" in folder else ""
        raise UserError(f"{text}: {folder!r} is no folder; {hint}give {FORM}")
    return HubAddress(repo, revision if at else None, folder)


def is_repo(text: str) -> bool:
    """Whether it may be the name of a repository, with its owner."""
    bad = "--" in text or ".." in text or text.endswith(".git")
    return not bad and bool(_REPO.fullmatch(text))


def _is_path(text: str) -> bool:
    """Whether names of it can be those of files, and none leads upwards."""
    return bool(_PATH.fullmatch(text)) and not {".", ".."} & set(text.split("/"))
