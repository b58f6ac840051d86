"""Token ids against transformers' on a tiny vocabulary, and what is no tokenizer."""

import json

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.text.tokenizer import END, START
from rad_jax.text.tokenizer_files import read_tokenizer, write_tokenizer
from tests.text.tokenizers import GOLDEN, tiny_tokenizer


def library():
    pytest.importorskip("tokenizers", reason="the library is not installed")


def test_ids_are_those_of_transformers():
    library()
    found = tiny_tokenizer()(GOLDEN["texts"])
    np.testing.assert_array_equal(found.ids, GOLDEN["ids"])
    assert found.ids.dtype == np.int32
    # "dogging  the\ncat's photo 42!" fits to the last token, nothing is cut.
    assert found.cut == (0, 0, 0, 0)


def test_long_texts_are_cut_and_keep_their_marks():
    library()
    tokenizer = tiny_tokenizer(length=5)
    found = tokenizer(["the cat the cat the", "cat"])
    names = [tokenizer.tokens[i] for i in found.ids[0]]
    assert names == [START, "the</w>", "cat</w>", "the</w>", END]
    assert found.cut == (2, 0)


def test_short_texts_are_filled_up_with_the_pad():
    library()
    tokenizer = tiny_tokenizer(pad="!")
    (ids,) = tokenizer(["cat"]).ids
    assert [tokenizer.tokens[i] for i in ids[:4]] == [START, "cat</w>", END, "!"]
    assert set(ids[3:]) == {tokenizer.tokens.index("!")}


def test_a_mark_in_a_text_is_letters():
    library()
    tokenizer = tiny_tokenizer(length=40)
    (ids,) = tokenizer([f"cat {END} cat"]).ids
    end = tokenizer.tokens.index(END)
    # One at the end, then padding, which is the same token.
    first = list(ids).index(end)
    assert first > 4 and set(ids[first:]) == {end}


def test_written_and_read_is_the_same(tmp_path):
    ours = tiny_tokenizer(pad="!")
    write_tokenizer(ours, tmp_path)
    assert read_tokenizer(tmp_path, length=16) == ours


def test_the_library_reads_what_is_written(tmp_path):
    library()
    from tokenizers import Tokenizer as Library

    ours = tiny_tokenizer()
    write_tokenizer(ours, tmp_path)
    theirs = Library.from_file(str(tmp_path / "tokenizer.json"))
    for text in GOLDEN["texts"]:
        ids = theirs.encode(text).ids  # with marks, without padding
        np.testing.assert_array_equal(ours([text]).ids[0, : len(ids)], ids)


def test_older_files_are_read(tmp_path):
    ours = tiny_tokenizer()
    numbers = {token: i for i, token in enumerate(ours.tokens)}
    (tmp_path / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in ours.merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    assert read_tokenizer(tmp_path, length=16) == ours
    pad = {"content": "!", "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))
    assert read_tokenizer(tmp_path, length=16).pad == "!"


VOCABULARY = {START: 0, END: 1, "a</w>": 2}


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "has no tokenizer.json and no vocab.json; get it again"),
        ({"vocab.json": "{}"}, "merges.txt: is missing; get it again"),
        ({"tokenizer.json": "{"}, "tokenizer.json: is no JSON; get it again"),
        ({"tokenizer.json": b"\xff"}, "tokenizer.json: is no text; get it again"),
        ({"tokenizer.json": "[]"}, "is no tokenizer of CLIP (has no vocabulary)"),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 1}, "merges": []}}},
            "(its numbers are not 0, 1, 2, ..)",
        ),
        (
            {"tokenizer.json": {"model": {"vocab": {"a": 0}, "merges": []}}},
            "(has no token '<|startoftext|>')",
        ),
        ({"tokenizer.json": {"model": {"vocab": VOCABULARY}}}, "(has no merges)"),
        (
            {"tokenizer.json": {"model": {"vocab": VOCABULARY, "merges": ["a b c"]}}},
            "(merges 'a b c', which is no pair)",
        ),
        (
            {"tokenizer.json": {"model": {"vocab": VOCABULARY, "merges": ["a b"]}}},
            "(merges 'a b', which are no tokens)",
        ),
        (
            {
                "tokenizer.json": {"model": {"vocab": VOCABULARY, "merges": []}},
                "tokenizer_config.json": {"pad_token": 3},
            },
            "is no configuration of a tokenizer",
        ),
    ],
)
def test_what_is_no_tokenizer_is_told(tmp_path, files, message):
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content)
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as raised:
        read_tokenizer(tmp_path)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_without_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("rad_jax.text.tokenizer_files.MAX_BYTES", 100)
    write_tokenizer(tiny_tokenizer(), tmp_path)
    with pytest.raises(UserError, match="larger than any tokenizer"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tokens": (START, END, "a", "a"), "merges": ()}, "has a token twice"),
        ({"pad": "nothing"}, "has no token 'nothing'"),
        ({"length": 1}, "length is 1; two marks need 2 or more"),
    ],
)
def test_what_makes_no_tokenizer_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_tokenizer(**changes)
