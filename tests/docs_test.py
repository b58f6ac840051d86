"""The commands and programs in the documents run as they are written.

A block that is not run says why in a comment on the line above it:
``<!-- not run: needs a TPU pod -->``.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.cli import main
from rad_jax.config.file import load_config
from rad_jax.models.network import abstract_params
from tests.conftest import ROOT
from tests.data.image_files import (
    FILES,
    class_tars,
    encoded,
    write_folder,
    write_tar,
)
from tests.models.adm_files import random_params

INTERPRETERS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}

RUN = [
    "README.md",
    *(f"docs/{x}.md" for x in ("inpainting", "converting", "training", "fewsteps")),
]
PARSED = ["launch/README.md", *(f"docs/{x.name}" for x in (ROOT / "docs").glob("*.md"))]

FENCED = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r"```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

A_RUN = (
    "rad-jax prepare digits --data_dir data\n"
    "rad-jax train --config configs/digits.py --workdir runs/digits"
)
BEFORE = {"docs/inpainting.md": A_RUN, "docs/fewsteps.md": A_RUN}
"""What a document takes for granted: in these, a run of digits."""

SMALL = '''

_full_size = get_config


def get_config():
    """The config with a network of seconds, for two steps."""
    config = _full_size()
    config.update_from_flattened_dict(
        {
            "model.image_size": 16,
            "model.model_channels": 32,
            "model.channel_mult": (1,),
            "model.num_res_blocks": 1,
            "model.attention_resolutions": (),
            "model.num_head_channels": 32,
            "optimizer.warmup_steps": 1,
            "distil.energy_steps": min(config.distil.energy_steps, 1),
            "distil.points": 2,
            "train.num_steps": 2,
            "train.batch_size": 4,
            "train.sample_every": 0,
        }
    )
    return config
'''
"""Added to every config, so that the commands that name it take seconds."""


class Block(NamedTuple):
    """A block of a document; ``reason``: why it is not run, if it is not."""

    line: int
    language: str
    text: str
    reason: str | None


def blocks(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a document; fails for one that cannot be run."""
    for found in FENCED.finditer(markdown):
        block = Block(
            markdown.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["text"],
            found["reason"],
        )
        if block.reason is None and block.language not in INTERPRETERS:
            pytest.fail(
                f"line {block.line}: a block of {block.language or 'no language'} is "
                f"not run; make it one of {', '.join(INTERPRETERS)} or say why on the "
                "line above: <!-- not run: ... -->"
            )
        yield block


def run_block(block: Block, document: str, folder: Path, env: dict[str, str]) -> None:
    """Runs a block in a folder; fails with its output."""
    done = subprocess.run(
        [*INTERPRETERS[block.language], block.text],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        pytest.fail(
            f"{document}:{block.line} ends with {done.returncode}:\n{block.text}\n"
            f"{done.stdout[-3000:]}"
        )


def is_install(block: Block) -> bool:
    return block.text.startswith("pip install")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables of a clean environment with the package, installed as README says."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    # Of the tests' own variables, the programs get none.
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_", "XLA_", "RAD_JAX_", "PYTHON", "VIRTUAL_ENV"))
    }
    env["PATH"] = f"{folder / 'venv' / 'bin'}{os.pathsep}{env['PATH']}"
    (install,) = filter(is_install, blocks((ROOT / "README.md").read_text()))
    run_block(install, "README.md", ROOT, env)
    return env | {
        "XDG_CACHE_HOME": str(folder / "cache"),  # of what is compiled
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles in less time
    }


def write_pictures(folder: Path) -> None:
    """A photo and its mask, folders of both, a low-resolution photo, an ImageNet."""
    pixels = np.random.default_rng(0).integers(0, 256, (18, 22), np.uint8)
    hole = np.zeros((18, 22), bool)
    hole[4:12, 5:16] = True
    photo, mask = encoded(Image.fromarray(pixels)), encoded(Image.fromarray(hole))
    low_res = encoded(Image.fromarray(pixels[:4, :4]))
    write_folder(folder, {"photo.png": photo, "hole.png": mask})
    write_folder(folder, {"photos/a.png": photo, "masks/a.png": mask})
    write_folder(folder, {"small/a.png": low_res})
    classes = ("n00000001", "n00000002")
    images = {f"{x}/{name}": data for x in classes for name, data in FILES.items()}
    write_tar(folder / "ILSVRC2012_img_train.tar", class_tars(images))


def write_configs(folder: Path) -> None:
    """The configs by the names that they have in the checkout, made small."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / "configs").glob("*.py"):
        path.write_text(path.read_text() + SMALL)


def write_models(folder: Path) -> None:
    """Small models with random weights by the names that converted ones have."""
    experiment = load_config(folder / "configs" / "imagenet256.py", [])
    plain = experiment.model
    classes = dataclasses.replace(plain, num_classes=1000)
    for name, config in (
        ("imagenet256_uncond", plain),
        ("imagenet256_cond", classes),
        ("upsampler_64_256", dataclasses.replace(classes, in_channels=6)),
    ):
        params = random_params(abstract_params(config))
        model = Model(config, experiment.schedule, "eps", params)
        (folder / "models").mkdir(exist_ok=True)
        write_model(folder / "models" / name, model, {})


@pytest.fixture
def user_folder(tmp_path):
    """What a user has, in small: photos, masks, an ImageNet, configs, models."""
    write_pictures(tmp_path)
    write_configs(tmp_path)
    write_models(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN)
def test_blocks_run_as_written(document, user_folder, environment):
    if document in BEFORE:
        before = Block(0, "sh", BEFORE[document], None)
        run_block(before, document, user_folder, environment)
    for block in blocks((ROOT / document).read_text()):
        if block.reason is None and not is_install(block):
            run_block(block, document, user_folder, environment)


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of the ``rad-jax`` commands of a block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["rad-jax"]:
            yield words[1:]


@pytest.mark.parametrize("document", sorted({*RUN, *PARSED}))
def test_commands_have_flags_that_there_are(document, monkeypatch):
    """Also those of blocks that are not run."""
    for verb in main.VERBS.values():
        monkeypatch.setattr(verb, "run", lambda args: 0)
    for found in FENCED.finditer((ROOT / document).read_text()):
        if found["language"] == "text":  # what a command prints
            continue
        for arguments in commands(found["text"]):
            assert main.main(arguments) == 0, arguments


def test_a_block_that_is_neither_run_nor_marked_fails():
    marked = "<!-- not run: needs a TPU pod -->\n```text\na\n```\n"
    (block,) = blocks(marked)
    assert (block.line, block.reason) == (2, "needs a TPU pod")
    apart = marked.replace("-->\n", "-->\n\n")
    for text in ("```\na\n```\n", "```text\na\n```\n", apart):
        with pytest.raises(pytest.fail.Exception, match="is not run; make it"):
            list(blocks(text))
    (block,) = blocks("one\n```sh\nrad-jax info\n```\n")
    assert block == (2, "sh", "rad-jax info\n", None)


def test_a_block_that_fails_is_named(tmp_path):
    block = Block(7, "sh", "false\necho on\n", None)
    with pytest.raises(pytest.fail.Exception, match=r"a\.md:7 ends with 1"):
        run_block(block, "a.md", tmp_path, dict(os.environ))
