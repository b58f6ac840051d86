"""Training adapters of a pretrained network: what changes, what is stored where."""

import dataclasses
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.load import load, read_frozen
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.convert.presets import base_process
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.errors import UserError
from rad_jax.models.apply import init_params
from rad_jax.models.lora import combine, merge, partition
from rad_jax.runtime.sharding import make_mesh
from rad_jax.train.loop import train
from rad_jax.train.pretrained import load_pretrained, write_base
from rad_jax.train.samples import SampleGrid
from rad_jax.train.start import items
from rad_jax.train.state import Frozen, init_state
from rad_jax.train.step import Batch, make_train_step
from rad_jax.train.stop import StopRequest
from tests.models.adm_files import flat


def test_adapters_and_time_layers_train(lora_run, lora_experiment, tiny_run):
    _, state = lora_run
    base = flat(load(tiny_run[0]).params)
    trained = flat(state.params)
    assert {key.rsplit(".")[-1] for key in trained if "time_embed" not in key} == {
        "lora_a",
        "lora_b",
    }
    # Of those whose output is scaled by zeros at first, some move in later steps.
    moved = [key for key in trained if "lora_b" in key and np.any(trained[key])]
    assert len(moved) == len([key for key in trained if "lora_b" in key])
    for key in ("time_embed.linear1.kernel", "middle.res1.time_embed.kernel"):
        assert np.any(trained[key] != base[key])


def test_frozen_parameters_have_no_slots(lora_run):
    """Neither in the average nor in the optimiser, in memory nor on disk."""
    workdir, state = lora_run
    count = sum(x.size for x in jax.tree.leaves(state.params))
    assert sum(x.size for x in jax.tree.leaves(state.ema)) == count
    slots = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert sum(x.size for x in slots) == 2 * count
    with Checkpoints(workdir) as checkpoints:
        stored = checkpoints.trees(4, items(state))
    jax.tree.map(np.testing.assert_array_equal, stored["params"], state.params)


def test_loaded_model_is_the_merged_one(lora_run, lora_experiment, tiny_run):
    workdir, state = lora_run
    experiment = lora_experiment()
    base = load(tiny_run[0])
    _, frozen = partition(experiment.model, experiment.lora, base.params)
    params = combine(state.ema, frozen)
    merged = merge(experiment.model, experiment.lora, params)
    model = load(workdir)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), model.params, merged
    )
    changed = flat(jax.tree.map(lambda a, b: np.any(a != b), model.params, base.params))
    assert changed["middle.attn.qkv.kernel"] and changed["conv_in.kernel"]
    assert not changed["conv_in.bias"] and not changed["norm_out.scale"]


@pytest.mark.slow
def test_stopped_and_resumed_is_straight_bit_for_bit(
    lora_run, lora_experiment, tmp_path
):
    """The pretrained model is not needed again."""
    _, straight = lora_run
    experiment = lora_experiment("train.sample_every=4")
    workdir = tmp_path / "run"

    class AtTwo(StopRequest):
        asked = 0

        def __bool__(self):
            self.asked += 1
            return self.asked >= 1  # step 2 is the last

    train(experiment, workdir, AtTwo())
    files = [path for path in (workdir / "base").rglob("*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    resumed = train(experiment, workdir, StopRequest())
    jax.tree.map(np.testing.assert_array_equal, resumed, straight)
    assert {path: path.stat().st_mtime_ns for path in files} == times
    # Grids are of the merged network.
    expected = SampleGrid(experiment).draw(load(workdir).params)
    picture = np.asarray(Image.open(workdir / "samples" / "0000004.png"))
    np.testing.assert_array_equal(picture, expected)


def test_first_loss_is_that_of_training_in_full(lora_run, lora_experiment, tmp_path):
    """Adapters add nothing at first: masks, times and noise are the same too."""
    full = lora_experiment("lora.rank=0", "train.num_steps=1")
    train(full, tmp_path / "run", StopRequest())
    firsts = [
        json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        for folder in (lora_run[0], tmp_path / "run")
    ]
    np.testing.assert_allclose(firsts[0]["loss"], firsts[1]["loss"], rtol=1e-5)


def test_base_in_bfloat16(lora_run, lora_experiment, tmp_path):
    """Half the size; what trains, and norms and biases, keep their precision."""
    experiment = lora_experiment("lora.base_dtype=bfloat16")
    workdir = tmp_path / "run"
    shutil.copytree(lora_run[0], workdir)
    write_base(experiment, workdir, load_pretrained(experiment))
    frozen = read_frozen(experiment, workdir)
    types = {(leaf.ndim > 1, str(leaf.dtype)) for leaf in jax.tree.leaves(frozen)}
    assert types == {(True, "bfloat16"), (False, "float32")}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(load(workdir).params)} == {
        "float32"
    }
    # Training keeps its types, too; to compile it takes long.
    state = jax.eval_shape(lambda: init_state(experiment))
    step = make_train_step(experiment, make_mesh())
    batch = Batch(jnp.zeros((4, 16, 16, 1), jnp.uint8), jnp.zeros(1, jnp.int32))
    after, _ = jax.eval_shape(step, state, Frozen(frozen, {}, {}), batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )


def test_a_damaged_base_is_named(lora_run, tmp_path):
    shutil.copytree(lora_run[0], tmp_path / "run")
    files = (tmp_path / "run" / "base" / "params").rglob("*")
    largest = max((p for p in files if p.is_file()), key=os.path.getsize)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 255
    largest.write_bytes(data)
    with pytest.raises(UserError, match="base/params: is damaged"):
        load(tmp_path / "run")


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            ("model.model_channels=64", "loss.parametrisation=v"),
            r"another network than the config's \(model.model_channels is 32 there, "
            "64 here; loss.parametrisation is eps there, v here",
        ),
        (("schedule.kind=cosine",), "schedule.kind is linear there, cosine here"),
        (("pretrained=missing",), "missing: "),
    ],
)
def test_a_pretrained_model_must_fit(lora_experiment, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(lora_experiment(*changes), tmp_path / "run", StopRequest())
    assert not (tmp_path / "run" / "base").exists()


def test_an_iddpm_becomes_rad(lora_experiment, tmp_path):
    """On its own process, which the config must have, and fills holes from the run."""
    changes = (
        *(f"pretrained={tmp_path / 'model'}", "schedule.kind=cosine"),
        *("schedule.hole_steps=40", "schedule.known_steps=40"),
    )
    process = ("schedule.base_steps=40", "schedule.timestep_scale=25.0")
    experiment = lora_experiment(*changes, *process)
    schedule = base_process("cosine", 40, rescaled=True)
    params = init_params(experiment.model, jax.random.key(0))
    plain = dataclasses.replace(schedule, known_steps=0)
    base = Model(experiment.model, plain, "eps", params)
    write_model(tmp_path / "model", base, {})
    with pytest.raises(UserError, match=r"base_steps is 40 there, 1000 here; .*scale"):
        train(lora_experiment(*changes), tmp_path / "run", StopRequest())
    train(experiment, tmp_path / "run", StopRequest())
    model = load(tmp_path / "run")
    assert isinstance(model, Model) and model.schedule == experiment.schedule
    assert make_schedule(model.schedule).clock.span == 1000
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    hole = np.zeros((16, 16), bool)
    hole[4:12, 4:12] = True
    key = jax.random.key(0)
    filled = rad_jax.inpaint(model, image, hole, key=key, steps=3, num_samples=2)
    np.testing.assert_array_equal(filled[:, ~hole], np.stack([image[~hole]] * 2))
    assert (filled[0] != filled[1])[hole].any()


def test_a_pretrained_model_with_classes_is_refused(lora_experiment, tmp_path):
    experiment = lora_experiment(f"pretrained={tmp_path / 'model'}")
    config = dataclasses.replace(experiment.model, num_classes=3)
    write_model(
        tmp_path / "model",
        Model(
            config, experiment.schedule, "eps", init_params(config, jax.random.key(0))
        ),
        {},
    )
    with pytest.raises(UserError, match="has 3 classes, and training with labels is"):
        train(experiment, tmp_path / "run", StopRequest())


def test_how_it_is_computed_may_differ(lora_experiment):
    experiment = lora_experiment("model.dropout=0.1", "model.use_remat=True")
    assert load_pretrained(experiment).config != experiment.model


def test_adapters_need_a_network(lora_experiment):
    with pytest.raises(UserError, match="set pretrained to the folder of a model"):
        lora_experiment("pretrained=")
