"""Files of tokenizers, as transformers writes them.

One ``tokenizer.json``, or ``vocab.json`` and ``merges.txt`` of older versions. Only
vocabulary and merges are read: what else a file asks for is not done.
"""

import json
from pathlib import Path
from typing import Any

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.text.tokenizer import END, LENGTH, START, Tokenizer, description

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"

MAX_BYTES = 2**25
"""CLIP's own are a tenth of it."""


def read_tokenizer(folder: AnyPath, length: int = LENGTH) -> Tokenizer:
    """The tokenizer in a folder.

    Args:
      folder: with `FILE`, or `VOCABULARY` and `MERGES`; and maybe `CONFIG`, for what
        short texts are filled up with.
      length: of texts, in tokens.

    Raises:
      UserError: naming the file that is missing, or is none of such.
    """
    path = folder / FILE
    if path.is_file():
        content = _json(path)
        found = content.get("model") if isinstance(content, dict) else None
        found = found if isinstance(found, dict) else {}
        vocabulary, merges = found.get("vocab"), found.get("merges")
    elif (folder / VOCABULARY).is_file():
        path = folder / VOCABULARY
        vocabulary = _json(path)
        if not (folder / MERGES).is_file():
            raise UserError(f"{folder / MERGES}: is missing; get it again")
        # The first line says the version.
        merges = _text(folder / MERGES).splitlines()
        merges = [x for x in merges if x.strip() and not x.startswith("#version")]
    else:
        raise UserError(f"{folder}: has no {FILE} and no {VOCABULARY}; get it again")
    try:
        return Tokenizer(_tokens(vocabulary), _pairs(merges), _pad(folder), length)
    except UserError as error:
        raise UserError(f"{path}: is no tokenizer of CLIP ({error})") from error


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `FILE` and `CONFIG`, as transformers reads them too.

    Raises:
      OSError: they cannot be written.
    """
    content = description(tokenizer)
    mark = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    content["added_tokens"] = [
        {"id": tokenizer.tokens.index(name), "content": name, **mark}
        for name in (START, END)
    ]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": tokenizer.pad,
        "model_max_length": tokenizer.length,
    }
    for name, each in ((FILE, content), (CONFIG, config)):
        text = json.dumps(each, indent=2, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


def _tokens(vocabulary: Any) -> tuple[str, ...]:
    """In the order of their numbers, which are all from 0 on."""
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise UserError("has no vocabulary")
    numbers = vocabulary.values()
    if any(type(x) is not int for x in numbers) or set(numbers) != set(
        range(len(vocabulary))
    ):
        raise UserError("its numbers are not 0, 1, 2, ..")
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


def _pairs(merges: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(merges, list):
        raise UserError("has no merges")
    found = []
    for each in merges:
        pair = each.split(" ") if isinstance(each, str) else each
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(x, str) for x in pair)
        ):
            raise UserError(f"merges {str(each)[:80]!r}, which is no pair")
        found.append((pair[0], pair[1]))
    return tuple(found)


def _pad(folder: AnyPath) -> str:
    """What `CONFIG` says, or CLIP's own."""
    if not (folder / CONFIG).is_file():
        return END
    content = _json(folder / CONFIG)
    pad = content.get("pad_token", END) if isinstance(content, dict) else None
    if isinstance(pad, dict):  # of older versions: a token with its properties
        pad = pad.get("content")
    if not isinstance(pad, str):
        raise UserError(f"{folder / CONFIG}: is no configuration of a tokenizer")
    return pad


def _json(path: AnyPath) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON; get it again") from error


def _text(path: AnyPath) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: is larger than any tokenizer; get it again")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text; get it again") from error
