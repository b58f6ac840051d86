"""Paths are made plain where they enter, of this machine and of buckets."""

import os
from pathlib import Path

import pytest

from rad_jax.errors import UserError
from rad_jax.files.paths import local_path, plain


@pytest.mark.parametrize("path", ["a", "a/b.png", "./a", "/a//b", "a~", "a..b", "..."])
def test_other_paths_stay_as_they_are(path):
    assert plain(path) == path
    assert local_path(path) == local_path(Path(path)) == Path(path)


def test_home_and_parents_are_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    assert plain("~") == str(tmp_path)
    assert plain("~/x/y") == str(tmp_path / "x" / "y")
    assert plain("deep/../x") == str(tmp_path / "x")
    assert plain("~/deep/../x") == str(tmp_path / "x")
    # As the system does: the parent of where the link leads to.
    assert plain("link/../x") == str(tmp_path / "deep" / "x")
    assert plain("./~") == "./~"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("gs://b/runs/../x", "gs://b/x"),
        ("gs://b//runs/./x/", "gs://b/runs/x"),
        ("gs://b", "gs://b"),
        ("gs://b/~/x", "gs://b/~/x"),
        ("gs://b/a/b/../..", "gs://b"),
    ],
)
def test_addresses(address, expected):
    assert plain(address) == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "an empty path; is a variable not set"),
        (
            "~nobody-of-this-name/x",
            "~nobody-of-this-name/x: no such user; write ./~",
        ),
        ("gs://b/../x", "gs://b/../x: leads out of its bucket"),
        ("gs://b/a/../../x", "leads out of its bucket"),
    ],
)
def test_paths_that_lead_nowhere(path, message):
    with pytest.raises(UserError, match=message):
        plain(path)


def test_an_address_is_no_local_path():
    with pytest.raises(UserError, match="gs://b/x: must lie on this machine"):
        local_path("gs://b/x")


def test_bytes_that_are_no_text_are_a_path():
    name = os.fsdecode(b"\xff")
    assert plain(name) == name
