"""Models to the Hub and back, through the commands, by a stand-in on loopback."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import rad_jax
from rad_jax.convert.command import convert
from tests.sharing.fake_hub import READ, WRITE, Repo
from tests.sharing.small import lama, network, write

REPO = "owner/name"
ADDRESS = f"hf://{REPO}"


def equal(model, other):
    assert model._replace(params={}) == other._replace(params={})
    jax.tree.map(np.testing.assert_array_equal, model.params, other.params)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "m", file="a.pt", layout="openai")


@pytest.fixture
def push(rad, hub, folder):
    """``push("--private")`` pushes a small model: exit code, lines, errors."""

    def run(*more, model=folder, repo=REPO, license="mit"):
        flags = ("--model", model, "--repo", repo, "--license", license)
        code, out, err = told(rad("push", *flags, *more))
        assert "hf_" not in "".join(out + err), "a token, or what is signed"
        return code, out, err

    return run


def pushed(hub, branch="main"):
    return hub.repos[REPO].files(branch)


def told(result):
    code, out, err = result
    return code, out.splitlines(), err


def refused(result, message):
    code, out, err = result
    assert (code, out, len(err)) == (2, [], 1), result
    assert err[0].startswith("rad-jax: ") and message in err[0]


# There and back


@pytest.mark.parametrize("kind", ["rad", "adm", "lama", "bfloat16", "few"])
def test_what_is_pushed_is_loaded_bit_by_bit(kind, hub, push, tmp_path):
    model = {
        "rad": network,
        "adm": lambda: network(known_steps=0, num_classes=3),
        "lama": lama,
        "few": lambda: network()._replace(few_steps=(1000, 160)),
        "bfloat16": lambda: network()._replace(
            params=jax.tree.map(
                lambda x: x.astype(ml_dtypes.bfloat16) if x.ndim > 1 else x,
                network().params,
            )
        ),
    }[kind]()
    place = write(tmp_path / "x", model)
    code, out, err = push(model=place)
    (commit,) = [x for x, files in hub.repos[REPO].commits.items() if files]
    assert (code, err) == (0, []) and len(out) == 1
    assert out[0].startswith("rad-jax: ") and out[0].endswith(f"{ADDRESS}@{commit}")
    equal(rad_jax.load(ADDRESS), model)
    # The copy is what convert makes of the folder.
    convert(place, tmp_path / "b.safetensors", to="safetensors")
    copy = pushed(hub)["model.safetensors"]
    assert copy == (tmp_path / "b.safetensors").read_bytes()


def test_the_files_that_are_pushed(hub, push, folder):
    assert push()[0] == 0
    files = pushed(hub)
    ours = {x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()}
    assert files.keys() == ours | {"README.md", "model.safetensors"}
    assert files["model.json"] == (folder / "model.json").read_bytes()
    # A model is passed on, the folder that it was made in is not.
    for name, content in files.items():
        assert str(folder.parent).encode() not in content, name
    assert b'license: "mit"' in files["README.md"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiny_run", "lora_run"])
def test_a_run_is_pushed_with_its_config(kind, hub, push, request, rad):
    workdir, _ = request.getfixturevalue(kind)
    assert push(model=workdir)[0] == 0
    equal(rad_jax.load(ADDRESS), rad_jax.load(workdir))
    record = json.loads(pushed(hub)["model.json"])
    training = record["provenance"]["training"]
    assert training["train"]["batch_size"] == 4 and "wandb" not in str(training)
    assert training["data"] == {
        **training["data"],
        "name": "digits",
        "train_split": "train",
    }
    card = pushed(hub)["README.md"].decode()
    steps = {"tiny_run": 10, "lora_run": 4}[kind]
    assert f"averaged parameters of step {steps} of a run" in card
    assert ("adapters (LoRA) are merged" in card) == (kind == "lora_run")
    assert "| optimizer.ema_decay | 0.2 |" in card
    everything = b"".join(pushed(hub).values())
    assert str(workdir.parent).encode() not in everything
    assert b"data_dir" not in everything


def test_a_second_push_replaces_the_model_and_nothing_else(hub, push, tmp_path):
    assert push()[0] == 0
    first = hub.repos[REPO].branches["main"]
    hub.repos[REPO].add(**{"notes.txt": b"mine", "LICENSE": b"text"})
    other = write(tmp_path / "other", network(seed=1))
    code, out, _ = push(model=other)
    assert code == 0 and "the card (README.md) was replaced" in out[0]
    equal(rad_jax.load(ADDRESS), rad_jax.load(other))
    files = pushed(hub)
    assert (files["notes.txt"], files["LICENSE"]) == (b"mine", b"text")
    stale = {x for x in hub.repos[REPO].commits[first] if x.startswith("params/")}
    now = {x.relative_to(other).as_posix() for x in other.rglob("*") if x.is_file()}
    assert not (stale - now) & files.keys()
    # Whoever pinned the first still has it.
    equal(rad_jax.load(f"{ADDRESS}@{first}"), network())


def test_a_push_of_the_same_makes_no_large_file_twice(hub, push):
    assert push()[0] == 0
    hub.requests.clear()
    assert push()[0] == 0
    assert not [x for x in hub.requests if x.startswith("PUT")]


def test_a_branch_is_made(hub, push):
    for _ in range(2):
        assert push("--revision", "small")[0] == 0
        assert "model.json" in pushed(hub, "small")
        assert pushed(hub) == {}
    assert rad_jax.load(f"{ADDRESS}@small").config.image_size == 16


def test_private(hub, push, rad, monkeypatch):
    assert push("--private")[0] == 0
    assert hub.repos[REPO].private
    monkeypatch.delenv("HF_TOKEN")
    mend = "no such repository, or a private one; check the name, or log in"
    refused(told(rad("info", ADDRESS)), f"{ADDRESS}: {mend}")


def test_a_public_repository_is_not_taken_for_a_private_one(hub, push):
    assert push()[0] == 0
    refused(push("--private"), "is there, and public; --private makes no repository")


def test_output_writes_what_would_be_uploaded(hub, push, tmp_path, monkeypatch):
    """Without a token, without a request."""
    monkeypatch.delenv("HF_TOKEN")
    code, out, err = push("--output", tmp_path / "out")
    assert (code, err, hub.requests) == (0, [], [])
    assert out == [
        f"rad-jax: what would be uploaded to {ADDRESS} is {tmp_path / 'out'}"
    ]
    equal(rad_jax.load(tmp_path / "out"), network())
    assert len(load_file(tmp_path / "out" / "model.safetensors")) > 10
    there = {x.name for x in (tmp_path / "out").iterdir()}
    assert there == {"model.json", "params", "model.safetensors", "README.md"}
    refused(push("--output", tmp_path / "out"), "exists; choose another output")


def test_a_model_of_the_hub_is_pushed_on(hub, push):
    assert push()[0] == 0
    code, _, err = push(model=ADDRESS, repo="owner/again")
    assert code == 0 and len(err) == 1 and f"{ADDRESS} is {ADDRESS}@" in err[0]
    equal(rad_jax.load("hf://owner/again"), network())


# What is refused


def test_no_token(push, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    refused(push(), f"{ADDRESS}: nobody is logged in; log in (hf auth login, or the")
    assert not hub.requests


def test_a_token_that_may_only_read(push, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ)
    refused(push(), "your token may only read; log in (hf auth login")
    assert not hub.repos


def test_a_token_that_is_none(push, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    refused(push(), "the Hub does not take your token (401); log in")


def test_no_permission(push, hub):
    hub.writable = False
    refused(push(), "your token may not do that (403: You have no right to create")
    hub.writable = True
    assert push()[0] == 0
    before = pushed(hub)
    hub.writable = False
    refused(push(), "your token may not do that (403: You may not write here")
    assert pushed(hub) == before


@pytest.mark.parametrize("repo", ["name", "a/b/c", "a/..", "a--b/c", "a/b.git", "a/"])
def test_names_that_are_none(repo, push, hub):
    refused(push(repo=repo), f"{repo}: is no name of a repository; give owner/name")
    assert not hub.requests


@pytest.mark.parametrize("license", ["", "my own", "MIT\nlicense_name: x", "Apache 2"])
def test_licences_that_are_none(license, push):
    refused(push(license=license), "is no identifier of a licence; give one of the Hub")


def test_branches_that_are_none(push, hub):
    refused(push("--revision", "../x"), "'../x' is no revision; give a branch")
    refused(push("--revision", "0" * 40), "is a commit, which stays as it is; give a")
    assert not hub.requests


def test_a_licence_must_be_given(rad, folder):
    code, _, (line,) = rad("push", "--model", folder, "--repo", REPO)
    assert code == 2 and "required: --license" in line


def test_a_licence_that_the_hub_does_not_know(push, hub):
    refused(push(license="madeup"), '"license" must be one of a list')
    assert pushed(hub) == {}


def test_no_model(push, hub, tmp_path):
    refused(push(model=tmp_path), "is neither a model folder (it has no model.json)")
    refused(push(model=tmp_path / "x"), "no such folder")
    assert not hub.repos


@pytest.mark.parametrize(
    "files, message",
    [
        (
            {"weights.bin": b"1"},
            "something else than a model of rad_jax ('weights.bin'",
        ),
        ({"model.json": b"{}"}, "holds a model.json that is none of rad_jax"),
        (
            {"model.json": b'{"format": 1}'},
            "holds a model.json that is none of rad_jax",
        ),
    ],
)
def test_a_repository_of_something_else(files, message, push, hub):
    assert push()[0] == 0
    sha = hub.repos[REPO].commit("main", {})
    hub.repos[REPO].add(**files)
    refused(push(), message)
    assert pushed(hub) == files
    hub.repos[REPO].branches["main"] = sha
    assert push()[0] == 0


def test_a_repository_with_a_readme_alone_is_empty(push, hub):
    hub.repos[REPO] = Repo()
    hub.repos[REPO].add(**{".gitattributes": b"x", "README.md": b"---\nlicense: mit"})
    assert push()[0] == 0
    assert pushed(hub)[".gitattributes"] == b"x"


def test_an_upload_that_breaks_off_leaves_nothing(push, hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken = "/store/"
    refused(push(), "the Hub answers with an error (500")
    assert pushed(hub) == {}
    hub.broken = ""
    assert push()[0] == 0


def test_a_model_that_is_not_finite(push, hub, tmp_path):
    model = network()
    model.params["conv_out"]["bias"][0] = np.nan
    place = write(tmp_path / "nan", model)
    refused(push(model=place), "is NaN or infinite in out.2.bias; such a model")
    assert not hub.repos


def test_a_damaged_model(push, hub, folder):
    record = json.loads((folder / "model.json").read_text()) | {"crc32": 1}
    (folder / "model.json").write_text(json.dumps(record))
    refused(push(), "is damaged")
    assert not hub.repos


def test_the_library_is_missing(push, monkeypatch, rad):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    mend = "the Hub needs huggingface_hub: pip install 'rad-jax[hub]'"
    refused(push(), f"{ADDRESS}: {mend}")
    code, _, (line,) = rad("info", ADDRESS)
    assert code == 2 and line == f"rad-jax: {ADDRESS}: {mend}"


def test_a_token_is_in_no_file(push, hub, tmp_path):
    assert push()[0] == 0
    assert rad_jax.load(ADDRESS)
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or WRITE.encode() not in path.read_bytes()
