"""Config files, overrides, and the JSON that is stored."""

import dataclasses
import json
import pathlib
import re

import jax
import pytest

from rad_jax.config.blocks import OptimizerConfig
from rad_jax.config.experiment import from_dict, to_dict
from rad_jax.config.file import load_config
from rad_jax.convert.presets import PRESETS
from rad_jax.convert.sde_presets import SDE_PRESETS
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.errors import UserError
from rad_jax.models.config import LoRAConfig
from rad_jax.models.network import abstract_params, differences
from rad_jax.train.state import init_state

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "configs").glob("*.py") if path.stem != "base")
DIGITS = "configs/digits.py"


def load(*overrides):
    return load_config(DIGITS, overrides)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_builds(path):
    experiment = load_config(path, [])
    make_schedule(experiment.schedule)
    state = jax.eval_shape(lambda: init_state(experiment))
    params = abstract_params(experiment.model)
    whole, trained = (
        sum(leaf.size for leaf in jax.tree.leaves(tree))
        for tree in (params, state.params)
    )
    assert whole > 100_000
    assert (trained < 0.5 * whole) == bool(experiment.lora.rank)


def test_rad_on_the_published_ncsnpp():
    """The network and the process are the preset's, and can be started from."""
    experiment = load_config(ROOT / "configs/ffhq256_ncsnpp.py", [])
    preset = SDE_PRESETS["ncsnpp_ffhq256"]
    assert not differences(preset.config, experiment.model)
    assert experiment.schedule == preset.schedule
    assert experiment.loss.parametrisation == preset.parametrisation


@pytest.mark.parametrize(
    "name, preset, batch_size, num_steps",
    [
        ("ffhq256", "ffhq256", 16, 300_000),
        ("lsun_bedroom256", "lsun_bedroom", 8, 300_000),
        ("imagenet256", "imagenet256_uncond", 16, 800_000),
    ],
)
def test_settings_of_the_paper(name, preset, batch_size, num_steps):
    """RAD Sec. 4.2; the network is the published one, and can be started from."""
    experiment = load_config(ROOT / f"configs/{name}.py", [])
    assert not differences(PRESETS[preset].config, experiment.model)
    assert experiment.pretrained == f"models/{preset}"
    assert experiment.lora == LoRAConfig(rank=16, alpha=16)
    assert experiment.optimizer == OptimizerConfig(learning_rate=1e-4)
    schedule = experiment.schedule
    assert (schedule.hole_steps, schedule.known_steps) == (1000, 1000)
    assert experiment.train.batch_size == batch_size
    assert experiment.train.num_steps == num_steps


def test_stored_json_is_the_experiment():
    experiment = load()
    stored = json.loads(json.dumps(to_dict(experiment)))
    assert from_dict(stored) == experiment
    assert experiment.model.channel_mult == tuple(stored["model"]["channel_mult"])


def test_stored_configs_from_before_a_key_are_read():
    blocks = to_dict(load())
    del blocks["model"]["noise_embedding"], blocks["mask"]["blur"]
    assert from_dict(blocks) == load()


def test_overrides_are_typed():
    experiment = load(
        "--config.train.batch_size=8",
        "--config.model.channel_mult=(1,2,4)",
        "--config.loss.all_pixels=True",
        "--config.optimizer.learning_rate=1",
    )
    assert experiment.train.batch_size == 8
    assert experiment.model.channel_mult == (1, 2, 4)
    assert experiment.loss.all_pixels is True
    assert experiment.optimizer.learning_rate == 1.0


def test_keys_that_are_true_or_false_need_no_value():
    assert load("--config.loss.all_pixels").loss.all_pixels is True
    assert load("--noconfig.loss.all_pixels").loss.all_pixels is False
    for override in "--config.seed", "--noconfig.seed", "--noconfig.mask.blur=1":
        with pytest.raises(UserError, match=r"digits\.py: .*config\.(seed|mask\.blur)"):
            load(override)


def test_a_config_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load() == load_config(ROOT / DIGITS, [])


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.bach_size=8", 'Did you mean "batch_size" instead of "bach_size"'),
        ("trian.batch_size=8", 'Did you mean "train" instead of "trian"'),
        ("train.batch_size=many", "train.batch_size=many: invalid literal"),
        ("train.batch_size=0", r"train.batch_size is 0; it must be >= 1"),
        ("loss.vlb_weight=-1", r"loss.vlb_weight is -1"),
        (
            "model.learn_sigma=False",
            "vlb_weight trains the variance, .* does not predict",
        ),
        ("model.in_channels=3", "in_channels and out_channels must be equal"),
        ("mask.blur=-1", r"mask.blur is -1.0; it must lie in \[0, 32\] pixels"),
        ("model.noise_embedding=none", "noise_embedding is 'none'; use spatial or"),
        ("optimizer.decay=linear", "optimizer.decay is 'linear'; use 'constant'"),
        ("optimizer.ema_decay=1.0", "optimizer.ema_decay is 1.0"),
        ("optimizer.clip_norm=0.0", "learning_rate and clip_norm must be > 0"),
    ],
)
def test_bad_overrides_are_explained(override, message):
    with pytest.raises(UserError, match=message):
        load(f"--config.{override}")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda d: d["model"].pop("image_size"),
            "config lacks the key model.image_size",
        ),
        (
            lambda d: d["model"].update(chanel_mult=(1,)),
            r"no key model.chanel_mult; did you mean model.channel_mult\?",
        ),
        (lambda d: d["train"].update(num_steps=1.5), "train.num_steps is 1.5"),
        (lambda d: d["train"].update(num_steps=True), "train.num_steps is True"),
        (lambda d: d["data"].update(name=None), "data.name is None; .* type str"),
        (lambda d: d.update(model=3), "config model: must be a block"),
        (lambda d: d["model"].update(num_classes=10), "model.num_classes"),
    ],
)
def test_bad_stored_configs_are_explained(change, message):
    blocks = dataclasses.asdict(load())
    change(blocks)
    with pytest.raises(UserError, match=message):
        from_dict(blocks)


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(): return 3", "must return a ConfigDict"),
        ("def get_config(: pass", "broken.py: .*invalid syntax|broken.py: "),
        ("import no_such_module", "broken.py: .*no_such_module"),
        ("x = 1", "broken.py: .*get_config"),
    ],
)
def test_broken_files_are_explained(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(path, [])
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere.py: no such config file"):
        load_config("nowhere.py", [])


WITH_ARGUMENT = """
import ml_collections
from rad_jax.config.experiment import to_dict
from rad_jax.config.file import load_config

def get_config(size):
    config = ml_collections.ConfigDict(to_dict(load_config("configs/digits.py", [])))
    config.train.batch_size = {"": 2, "small": 3, "a:b": 4}[size]
    return config
"""
ARGUMENTS = {
    "c.py:": 2,
    "c.py:small": 3,
    "c.py:a:b": 4,
    "c.py": r"c\.py: get_config\(\) needs an argument; give c\.py:ARGUMENT",
    "c.py:no": r"c\.py: no$",
    "configs/digits.py:x": r"digits\.py: get_config\(\) takes no argument; give digits",
    "d.py:x": r"d\.py: no such config file",
    "e:f.py": r"e:f\.py: a config's path must have no colon; move the file",
}


@pytest.mark.parametrize("verb", ["train", "preflight"])
@pytest.mark.parametrize("config", ARGUMENTS)
def test_configs_that_take_an_argument(config, verb, tmp_path, monkeypatch, rad):
    monkeypatch.chdir(tmp_path)
    for name in "c.py", "e:f.py":
        (tmp_path / name).write_text(WITH_ARGUMENT)
    seen = []

    def stop(images):
        seen.append(images)
        raise UserError("far enough")

    monkeypatch.setattr("rad_jax.runtime.sharding.use_cpu_cores", stop)
    code, out, [line] = rad(verb, "--config", config, "--workdir", "run")
    assert (code, out) == (2, "")
    expected = ARGUMENTS[config]
    if isinstance(expected, int):
        assert (seen, line) == ([expected], "rad-jax: far enough")
    else:
        assert re.search(expected, line) and not seen
