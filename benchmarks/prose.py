"""Text around the tables: wrapped lines, and where numbers come from."""

import textwrap
from collections.abc import Mapping
from typing import Any


def source_of(record: Mapping[str, Any]) -> str:
    """The command that stored a result, on what, and when."""
    machine = record["measured"]
    return f"`{machine['command']}` on {machine['hardware']}, {machine['date']}."


def filled(text: str) -> str:
    """In lines of at most 120 characters; commands and links stay whole."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
