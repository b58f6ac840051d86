"""What a run needs, told before it starts."""

import json

import jax
import pytest

from benchmarks import train_memory
from rad_jax.chips.slices import find_slice
from rad_jax.runtime.memory import size
from rad_jax.runtime.sharding import abstract_mesh, make_mesh
from rad_jax.train import plan as module
from rad_jax.train.plan import make_plan, step_flops, step_shapes, step_speed
from rad_jax.train.step import make_train_step
from tests.conftest import ROOT


def total_bytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_state_is_what_a_run_has(tiny_experiment, tiny_run):
    _, state = tiny_run
    plan = make_plan(tiny_experiment(), abstract_mesh(1))
    assert plan.trained == sum(x.size for x in jax.tree.leaves(state.params))
    assert plan.state == plan.checkpoint == total_bytes(state)
    assert (plan.frozen, plan.base) == (0, 0)
    assert plan.gradient == total_bytes(state.params)
    assert plan.disk == 3 * plan.checkpoint  # the last two, and one being written


def test_adapters_need_little_but_the_base(lora_experiment, lora_run):
    _, state = lora_run
    plan = make_plan(lora_experiment(), abstract_mesh(1))
    assert plan.state == total_bytes(state)
    half = make_plan(lora_experiment("lora.base_dtype=bfloat16"), abstract_mesh(1))
    assert 0.5 < half.base / plan.base < 0.55  # norms and biases stay
    assert plan.gradient - half.gradient == 4 * plan.frozen  # merged, or not


def test_fsdp_divides_the_state(tiny_experiment):
    one, two = (
        make_plan(tiny_experiment(f"train.fsdp={n}"), abstract_mesh(4, n))
        for n in (1, 2)
    )
    assert 0.5 < two.state / one.state < 0.6  # small leaves are whole
    assert two.gradient == 2 * one.gradient  # what is gathered
    assert two.checkpoint == one.checkpoint


def test_activations_are_those_of_a_part_of_the_batch(tiny_experiment):
    changes = ("train.batch_size=8",)
    found = [
        make_plan(tiny_experiment(*changes, *more), abstract_mesh(n)).activations
        for n, more in ((1, ()), (2, ()), (1, ("train.microbatches=2",)))
    ]
    assert found[1] == found[2]
    assert found[0] / found[1] == pytest.approx(2, rel=0.05)
    rematted = tiny_experiment(*changes, "model.use_remat=True")
    assert make_plan(rematted, abstract_mesh(1)).activations < found[0] / 2


COMPILED = json.loads((ROOT / "docs/results/train_memory.json").read_text())["rows"]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            marks=() if row["config"] == "ffhq256" else pytest.mark.slow,
            id=f"{row['config']}-{row['batch']}-{row['use_remat']}",
        )
        for row in COMPILED
    ],
)
def test_memory_is_that_of_compiled_programs(row):
    """Of the paper's networks, by docs/results; people plan by it."""
    plan = make_plan(train_memory.experiment_of(row), abstract_mesh(1))
    there = find_slice(row["topology"]).chip.memory
    if plan.device > there:  # XLA computes again what it must, to make it fit
        assert there >= row["total"] > 0.8 * there
    else:
        assert 0.95 < plan.device / row["total"] < 1.25


def test_flops_of_a_step_are_those_of_the_network(tiny_experiment):
    """Remat or not, on however many devices."""
    changes = ("train.batch_size=8",)
    once = step_flops(tiny_experiment(*changes), abstract_mesh(1))
    assert once == step_flops(tiny_experiment(*changes), abstract_mesh(8))
    rematted = tiny_experiment(*changes, "model.use_remat=True")
    assert once == step_flops(rematted, abstract_mesh(1))
    twice = step_flops(tiny_experiment("train.batch_size=16"), abstract_mesh(1))
    assert twice == pytest.approx(2 * once, rel=1e-3)
    # The first convolution, forwards and to its kernel: a lower bound by hand.
    assert once > 2 * (2 * 8 * 16 * 16 * 9 * 32)


def test_speed_knows_its_share_where_the_chip_is_known(tiny_experiment, monkeypatch):
    experiment = tiny_experiment()
    assert "mfu" not in step_speed(experiment, make_mesh()).lap(1, 0.0)
    monkeypatch.setattr(module, "peak_flops", lambda chip, dtype: 1e12)
    assert step_speed(experiment, make_mesh()).lap(1, 0.0)["mfu"] > 0


def test_summary_says_where_disk_is_short(tiny_experiment, tmp_path, monkeypatch):
    plan = make_plan(tiny_experiment(), abstract_mesh(1))
    line = plan.summary(tmp_path / "not" / "there")
    assert line.startswith(f"needs about {size(plan.device)} per device and ")
    assert "TOO LITTLE" not in line
    huge = plan._replace(disk=2**60)
    assert "free: TOO LITTLE); a checkpoint is" in huge.summary(tmp_path)


@pytest.mark.parametrize(
    "count, text",
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (500 * 2**20, "500 MiB")],
)
def test_sizes_are_readable(count, text):
    assert size(count) == text
    assert size(2**50) == "1024 TiB"


def test_dry_run_needs_neither_data_nor_folder(rad, tiny):
    """Nor as many devices; of the batch it tells what they could share."""
    changes = tiny("train.batch_size=4", "train.fsdp=2", "data.data_dir=nowhere")
    code, out, err = rad(
        "train", "--config", "configs/digits.py", *changes, "--dry_run"
    )
    assert (code, err) == (0, [])
    lines = out.splitlines()
    assert "parameters, of which" in lines[0] and "(100.0%) train" in lines[0]
    assert [line.split(":")[0] for line in lines[2:5]] == [
        "1 device, 4 images",
        "8 devices, 8 images, the fewest that they can share",
        "64 devices, 64 images, the fewest that they can share",
    ]
    assert lines[-1].startswith("the step lowers for 8 TPU devices (data 4, fsdp 2)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, line",
    [
        ("ffhq256", "97,297,942 parameters, of which 13,649,680 (14.0%) train"),
        ("lsun_bedroom256", "564,336,662 parameters, of which 65,840,144 (11.7%)"),
        ("imagenet256", "564,336,662 parameters, of which 65,840,144 (11.7%) train"),
    ],
)
@pytest.mark.parametrize("fsdp", [1, 4])
def test_dry_run_of_the_papers_configs(rad, name, line, fsdp):
    config = ("--config", f"configs/{name}.py", f"--config.train.fsdp={fsdp}")
    code, out, err = rad("train", *config, "--dry_run")
    assert (code, err) == (0, [])
    assert out.startswith(line) and f"(data {8 // fsdp}, fsdp {fsdp})" in out


def test_sharded_step_is_lowered_with_one_sum_and_one_gathering(tiny_experiment):
    """Over all devices; what "fsdp" divides comes whole in one message."""
    experiment = tiny_experiment(
        "train.batch_size=16", "train.fsdp=2", "train.microbatches=2"
    )
    mesh = abstract_mesh(8, 2)
    step = make_train_step(experiment, mesh)
    text = step.trace(*step_shapes(experiment, mesh)).lower(lowering_platforms=("tpu",))
    lines = text.as_text().splitlines()
    sums = [x for x in lines if "stablehlo.all_reduce" in x]
    leaves = len(jax.tree.leaves(step_shapes(experiment, mesh)[0].params))
    # Of each leaf of the gradient, the totals and the wish to stop, outside the loop
    # over the parts of the batch.
    totals = len(jax.tree.leaves(step_shapes(experiment, mesh)[0].totals)) - 4
    assert len(sums) == leaves + totals + 1
    assert sum("stablehlo.all_gather" in x for x in lines) == 1
