"""Text as CLIP's text encoder reads it: numbers of parts of words (byte-pair encoding).

Radford et al. 2021, sec. 2.4. The library `tokenizers` does the work; what it does is
said here, and no file says otherwise.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from rad_jax.errors import UserError

START, END = "<|startoftext|>", "<|endoftext|>"

LENGTH = 77
"""Tokens that CLIP's text encoders read, with both marks."""

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What is split into tokens by itself: CLIP's own pattern."""

END_OF_WORD = "</w>"


class Tokens(NamedTuple):
    """Texts as numbers.

    Attributes:
      ids: of tokens, (n, length), from the start's mark to the end's, then padding.
      cut: how many tokens of each text did not fit and were left out.
    """

    ids: Int32[np.ndarray, "n length"]
    cut: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A vocabulary; called with texts it gives their `Tokens`.

    Marks of start and end within a text are read as the letters that they are made of.

    Attributes:
      tokens: the text of each number; `START` and `END` are among them.
      merges: pairs of tokens that become one, the most frequent first.
      pad: what fills up short texts: `END` of Stable Diffusion 1, "!" of 2.
      length: of the result.

    Raises:
      UserError: it makes no tokenizer.
    """

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    pad: str = END
    length: int = LENGTH

    def __post_init__(self):
        """Refuses what the library would, and what CLIP has otherwise."""
        known = set(self.tokens)
        if len(known) != len(self.tokens):
            raise UserError("has a token twice")
        for name in (START, END, self.pad):
            if name not in known:
                raise UserError(f"has no token {name[:40]!r}")
        for pair in self.merges:
            if not known.issuperset((*pair, "".join(pair))):
                raise UserError(f"merges {' '.join(pair)[:80]!r}, which are no tokens")
        if self.length < 2:
            raise UserError(f"length is {self.length}; two marks need 2 or more")

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """The numbers of texts.

        Raises:
          UserError: the library is not installed.
        """
        numbers, library = _numbers(self.tokens), _library(self)
        ids = np.full((len(texts), self.length), numbers[self.pad], np.int32)
        cut = []
        for row, text in zip(ids, texts, strict=True):
            found = library.encode(text, add_special_tokens=False).ids
            most = self.length - 2
            marked = [numbers[START], *found[:most], numbers[END]]
            row[: len(marked)] = marked
            cut.append(max(len(found) - most, 0))
        return Tokens(ids, tuple(cut))


def description(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer as the library, and transformers, have it in ``tokenizer.json``.

    Without marks as tokens that a text could name: who encodes adds them.
    """
    numbers = _numbers(tokenizer.tokens)
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    split = {
        "type": "Split",
        "pattern": {"Regex": WORDS},
        "behavior": "Removed",
        "invert": True,
    }
    bytewise = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}],
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytewise]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, numbers[END]],
            "cls": [START, numbers[START]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": bytewise,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": numbers,
            "merges": [list(pair) for pair in tokenizer.merges],
        },
    }


@functools.lru_cache(maxsize=4)
def _numbers(tokens: tuple[str, ...]) -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens)}


@functools.lru_cache(maxsize=4)
def _library(tokenizer: Tokenizer) -> Any:
    """What encodes."""
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise UserError("prompts need tokenizers; pip install 'rad-jax[sd]'") from error
    return Library.from_str(json.dumps(description(tokenizer)))
