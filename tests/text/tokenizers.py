"""A tokenizer of CLIP with twelve merges, as transformers had it."""

import json
from pathlib import Path

from rad_jax.text.tokenizer import END, START, Tokenizer

GOLDEN = json.loads(
    Path("tests/golden/bases/clip_tokenizer_tiny.json").read_text(encoding="utf-8")
)


def alphabet() -> list[str]:
    """A letter for each byte, in CLIP's order."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, own), *(chr(256 + i) for i in range(256 - len(own)))]


def tiny_tokenizer(**changes) -> Tokenizer:
    letters = alphabet()
    merges = tuple(tuple(pair.split()) for pair in GOLDEN["merges"])
    joined = ("".join(pair) for pair in merges)
    tokens = (*letters, *(f"{x}</w>" for x in letters), *joined, START, END)
    return Tokenizer(**{"tokens": tokens, "merges": merges, "length": 16} | changes)
