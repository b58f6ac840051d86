"""Models by hf:// addresses, wherever a model is read; what comes is hostile."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

import rad_jax
from rad_jax.checkpoints import hub as hub_module
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model_folder import read_model
from rad_jax.config.experiment import from_dict, to_dict
from rad_jax.files import hub_address
from rad_jax.files.hub_address import HubAddress, parse
from rad_jax.train.pretrained import load_pretrained
from tests.models.adm_files import random_params
from tests.sharing.fake_hub import READ, File, Repo
from tests.sharing.small import network, write

REPO = "owner/name"
ADDRESS = f"hf://{REPO}"


def files_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {x.relative_to(folder).as_posix(): x.read_bytes() for x in paths}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "m")


@pytest.fixture
def commit(hub, folder):
    """The commit of a repository that holds a model, and more."""
    hub.repos[REPO] = Repo()
    more = {
        "README.md": b"# A card\n",
        "model.safetensors": b"not wanted",
        "script.py": b"raise SystemExit",
        "params/run.py": b"raise SystemExit",
        "params/a.pkl": b"cos\nsystem\n.",
        "weights.pt": b"not wanted",
    }
    return hub.repos[REPO].add(**files_of(folder), **more)


def equal(model, other):
    assert model._replace(params={}) == other._replace(params={})
    jax.tree.map(np.testing.assert_array_equal, model.params, other.params)


def refused(result, *messages):
    code, out, err = result
    assert (code, out, len(err)) == (2, "", 1), result
    assert "hf_" not in err[0] and err[0].startswith("rad-jax")
    for message in messages:
        assert message in err[0]


def fetched(hub):
    return {
        x.rpartition("/resolve/")[2] for x in hub.requests if x.startswith("GET /o")
    }


# What is read, and from where


def test_a_model_and_its_card_alone_are_fetched(hub, commit, folder, capsys):
    equal(rad_jax.load(ADDRESS), read_model(folder))
    wanted = {*files_of(folder), "README.md"}
    assert fetched(hub) == {f"{commit}/{name}" for name in wanted}
    said = f"rad-jax: {ADDRESS} is {ADDRESS}@{commit}\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("revision", ["", "@main", "@COMMIT"])
def test_what_is_in_the_cache_is_read_without_a_network(
    revision, hub, commit, folder, monkeypatch, capsys
):
    address = ADDRESS + revision.replace("COMMIT", commit)
    first = rad_jax.load(address)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for _ in range(2):
        equal(rad_jax.load(address), first)
    assert not hub.requests
    said = capsys.readouterr().err
    assert said.count(f"{address} is {ADDRESS}@{commit}") == 3 * ("COM" not in revision)


def test_of_a_commit_the_hub_is_asked_once(hub, commit, capsys):
    rad_jax.load(f"{ADDRESS}@{commit}")
    hub.requests.clear()
    rad_jax.load(f"{ADDRESS}@{commit}")
    assert not hub.requests and capsys.readouterr().err == ""


def test_a_revision_stays_what_it_was(hub, commit, tmp_path, folder):
    rad_jax.load(ADDRESS)
    newer = write(tmp_path / "newer", network(seed=1))
    hub.repos[REPO].commit("main", {k: File(v) for k, v in files_of(newer).items()})
    equal(rad_jax.load(f"{ADDRESS}@{commit}"), read_model(folder))
    equal(rad_jax.load(ADDRESS), read_model(newer))


def test_a_hub_that_is_down_is_not_needed(hub, commit, folder):
    rad_jax.load(ADDRESS)
    hub.status = 503
    equal(rad_jax.load(ADDRESS), read_model(folder))


def test_a_folder_and_a_branch(hub, folder):
    files = {f"sets/a/{name}": File(x) for name, x in files_of(folder).items()}
    hub.repos[REPO] = Repo()
    sha = hub.repos[REPO].commit("feature/x", files)
    equal(rad_jax.load(f"{ADDRESS}@feature%2Fx/sets/a"), read_model(folder))
    equal(rad_jax.load(f"{ADDRESS}@{sha}/sets/a/"), read_model(folder))


# Wherever a model is read


def test_info_prints_its_card(hub, commit, rad):
    code, out, (line,) = rad("info", ADDRESS)
    pinned = f"{ADDRESS}@{commit}"
    assert (code, line) == (0, f"rad-jax: {ADDRESS} is {pinned}")
    assert out.startswith(f"{pinned}: model folder, ") and out.endswith("\n# A card\n")
    assert rad("info", "--card", pinned) == (0, "# A card\n", [])


def test_a_card_cannot_write_to_the_terminal(hub, commit, rad):
    text = "# A \x1b[2Jcard\x07\u202e\n".encode() + b"\xff" + b"x" * 2**20
    hub.repos[REPO].add(**{"README.md": text})
    code, out, _ = rad("info", "--card", ADDRESS)
    assert code == 0 and out.startswith("# A [2Jcard\n") and len(out) < 2**19


@pytest.fixture
def picture(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "p.png")
    Image.fromarray(np.eye(16, dtype=bool)).save(tmp_path / "hole.png")
    return "--image", tmp_path / "p.png", "--mask", tmp_path / "hole.png", "--steps", 1


def test_the_verbs_and_the_inpainter_take_it(
    hub, commit, folder, rad, picture, tmp_path, quickly
):
    for model, name in ((ADDRESS, "a"), (folder, "b")):
        to = ("--output", tmp_path / f"{name}.png")
        code, _, err = rad("inpaint", "--model", model, *picture, *to)
        assert code == 0 and all(f"{ADDRESS} is" in line for line in err)
        to = ("--output", tmp_path / f"{name}.safetensors", "--to", "safetensors")
        assert rad("convert", "--input", model, *to)[0] == 0
    for suffix in ("png", "safetensors"):
        a, b = (tmp_path / f"{name}.{suffix}" for name in "ab")
        assert a.read_bytes() == b.read_bytes()
    assert rad_jax.Inpainter.from_pretrained(ADDRESS).model.config.image_size == 16
    assert load_diffusion(ADDRESS, dtype="bfloat16").config.dtype == "bfloat16"


def test_a_run_starts_from_it(hub, tmp_path, tiny_experiment):
    record = to_dict(tiny_experiment()) | {"pretrained": ADDRESS}
    experiment = from_dict(record)
    assert experiment.pretrained == ADDRESS
    model = network()._replace(config=experiment.model, schedule=experiment.schedule)
    model = model._replace(params=random_params(model.abstract_params()))
    hub.repos[REPO] = Repo()
    hub.repos[REPO].add(**files_of(write(tmp_path / "base", model)))
    equal(load_pretrained(experiment), model)


# What goes wrong


@pytest.mark.parametrize(
    "text, message",
    [
        ("hf://foo", "names no repository; give hf://owner/name, hf://owner/name@"),
        ("hf://", "names no repository"),
        ("hf://a b/c", "a b/c is no name of a repository"),
        ("hf://a/b--c", "a/b--c is no name of a repository"),
        ("hf://a/b@", "'' is no revision; give a branch, a tag or a commit"),
        ("hf://a/b@..%2F..%2Fx", "'../../x' is no revision"),
        ("hf://a/b/c@main", "the revision comes before the folder"),
        ("hf://a/b@main/*", "'*' is no folder"),
        ("hf://a/b/../c", "'../c' is no folder"),
    ],
)
def test_addresses_that_are_none(text, message, rad, hub):
    code, out, (line,) = rad("info", text)
    assert (code, out) == (2, "") and f"{text}: " in line and message in line
    assert not hub.requests


def test_addresses_are_taken_apart_and_put_together():
    for text, parts in {
        "hf://a/b": ("a/b", None, ""),
        "hf://a/b@v1.0": ("a/b", "v1.0", ""),
        "hf://a/b@refs%2Fpr%2F1": ("a/b", "refs/pr/1", ""),
        "hf://a/b/x/y": ("a/b", None, "x/y"),
        "hf://a/b@v1/x": ("a/b", "v1", "x"),
    }.items():
        assert parse(text) == HubAddress(*parts) and str(parse(text)) == text
    assert hub_address.is_repo("a/b.c_d-e") and not hub_address.is_repo("a/" + "b" * 96)


def test_where_folders_are_written_the_hub_is_none(rad, tmp_path):
    code, _, (line,) = rad("train", "--config", "x", "--workdir", ADDRESS)
    assert code == 2 and "give a folder, or an address that begins gs://" in line


def test_no_such_repository(rad, hub):
    mend = "check the name, or log in (hf auth login, or the variable HF_TOKEN)"
    refused(rad("info", ADDRESS), f"{ADDRESS}: no such repository", mend)


def test_a_gated_repository(rad, hub, commit, monkeypatch):
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", READ)
    page = f"ask for access on {hub.url}/{REPO} and log in (hf auth"
    refused(rad("info", ADDRESS), f"{ADDRESS}: is gated; {page}")


def test_a_token_that_is_none(rad, hub, commit, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    refused(rad("info", ADDRESS), "the Hub does not take your token (401: Invalid")


def test_no_such_revision(rad, hub, commit):
    mend = "has no such revision; give a branch, a tag or a commit of it"
    for revision in ("v9", "0" * 40):
        refused(rad("info", f"{ADDRESS}@{revision}"), f"@{revision}: {mend}")


def test_offline_and_not_in_the_cache(rad, hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    mend = f"is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set"
    for address in (ADDRESS, f"{ADDRESS}@{commit}"):
        refused(rad("info", address), f"{address}: {mend}; unset it to fetch it once")


def test_no_network(rad, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = "the Hub cannot be reached ("
    refused(rad("info", ADDRESS), f"{ADDRESS}: {said}", "check the network")


def test_a_hub_that_does_not_answer(rad, hub, commit, folder, monkeypatch):
    pinned = rad_jax.load(ADDRESS)
    hub.seconds = 1.0
    monkeypatch.setattr(hub_module, "WAIT", {"read": 0.1})
    equal(rad_jax.load(ADDRESS), pinned)
    refused(
        rad("info", "hf://owner/other"), "the Hub cannot be reached (timed out); ch"
    )


def test_a_cache_that_cannot_be_written(rad, hub, commit, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    said = f"a file cannot be used (Not a directory: {tmp_path / 'file'}"
    refused(rad("info", ADDRESS), f"{ADDRESS}: {said}", "; check the disk")


def test_a_hub_that_answers_with_errors(rad, hub, commit):
    hub.status = 500
    said = "the Hub answers with an error (500: out of order); try again later"
    refused(rad("info", ADDRESS), f"{ADDRESS}: {said}")


def test_what_broke_off_is_gone_on_with(rad, hub, commit, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken = "manifest.ocdbt"
    refused(rad("info", ADDRESS), "the Hub answers with an error (500")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(rad("info", ADDRESS), "is not in the cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.broken = ""
    assert rad("info", ADDRESS)[0] == 0


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "holds no model folder (no model.json); check the name"),
        ({"a.txt": b""}, "(no model.json), but a.txt; check the name"),
        (
            {"unet/config.json": b"{}", "unet/x.safetensors": b"x"},
            "but unet/x.safetensors; to make one: hf download owner/name --local-dir "
            "DIR, then rad-jax convert --input DIR --output FOLDER",
        ),
        ({"a.pt": b"x"}, "then rad-jax convert --input DIR/a.pt --output FOLDER"),
        ({"x/model.json": b"{}"}, f"there is one at {ADDRESS}@COMMIT/x"),
        ({"\x1b[2J.pt": b"x"}, "but ??2J.pt; to make one"),
    ],
)
def test_a_repository_without_a_model(files, message, rad, hub):
    hub.repos[REPO] = Repo()
    sha = hub.repos[REPO].add(**files)
    refused(rad("info", ADDRESS), f"{ADDRESS}: ", message.replace("COMMIT", sha))


@pytest.mark.parametrize("name", ["params/../../../x", "params/..", "params/a/../../x"])
def test_no_file_leaves_its_folder(name, rad, hub, commit, tmp_path):
    """Not even for another commit's, which somebody may have pinned."""
    hub.repos[REPO].add(**{name: b"evil"})
    assert rad("info", ADDRESS)[0] == 0
    cache = tmp_path / "home" / "hub" / "models--owner--name"
    assert not [
        x for x in tmp_path.rglob("*") if x.is_file() and b"evil" in x.read_bytes()
    ]
    assert len(list((cache / "snapshots").iterdir())) == 1


def test_a_damaged_model_names_the_address(rad, hub, commit, folder):
    record = json.loads((folder / "model.json").read_text()) | {"crc32": 1}
    hub.repos[REPO].add(**{"model.json": json.dumps(record).encode()})
    code, _, err = rad("info", ADDRESS)
    assert code == 2 and ADDRESS in err[-1] and "is damaged" in err[-1]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"image_size": 10**9}},
        {"model": []},
        {"format": 99},
        {"provenance": ["\x1b[2J"]},
    ],
)
def test_a_hostile_record_is_one_line_or_harmless(change, rad, hub, commit, folder):
    record = json.loads((folder / "model.json").read_text()) | change
    hub.repos[REPO].add(**{"model.json": json.dumps(record).encode()})
    for verb in (["info"], ["info", "--card"]):
        code, out, err = rad(*verb, ADDRESS)
        assert code in (0, 2) and len(err) <= 2 and "\x1b" not in out + "".join(err)


def test_importing_and_help_do_not_import_the_library():
    program = (
        "import sys, rad_jax\nfrom rad_jax.cli.main import main\n"
        "try:\n    main(['push', '--help'])\nfinally:\n"
        "    assert not {'huggingface_hub', 'httpx2', 'jax'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
