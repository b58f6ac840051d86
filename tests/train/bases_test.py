"""RAD on bases of score-based SDEs: trained, adapted, and filled by commands."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from configs.digits_base import BASES
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.config.experiment import from_dict, to_dict
from rad_jax.config.file import load_config
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.errors import UserError
from rad_jax.models.apply import init_params
from rad_jax.models.network import abstract_params
from rad_jax.train.loop import train
from rad_jax.train.objective import continuous_time
from rad_jax.train.pretrained import load_pretrained
from rad_jax.train.stop import StopRequest
from rad_jax.train.totals import BUCKETS, bucket
from tests.conftest import DIGITS, ROOT, TINY
from tests.models.adm_files import random_params

CONFIG = ROOT / "configs" / "digits_base.py"

# What a network of 32 channels of each kind has, at one resolution.
SMALL = {
    "model.model_channels": 8,
    "model.channel_mult": "(1, 1)",
    "model.attention_resolutions": "(8,)",
}


@pytest.fixture(scope="module")
def changes(digits_dir):
    """``changes("train.num_steps=4")``: overrides for a network that trains fast."""
    tiny = [x for x in TINY if not x.startswith(("model.", "loss."))]
    small = [f"{name}={value}" for name, value in SMALL.items()]

    def overrides(*more):
        data = f"data.data_dir={digits_dir}"
        return [f"--config.{x}" for x in (data, *tiny, *small, *more)]

    return overrides


@pytest.fixture
def trains(rad, changes):
    """``trains("ve", folder, ...)`` runs the verb; returns its messages."""

    def run(base, folder, *more):
        config = ("--config", f"{CONFIG}:{base}", "--workdir", folder)
        return rad("train", *config, *changes("train.num_steps=4", *more))

    return run


def fills(rad, tmp_path, model):
    """Fills a hole by the command: known pixels stay, the others are some picture."""
    picture = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    hole = np.zeros((16, 16), np.uint8)
    hole[4:12, 4:12] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "h.png")
    files = ("--image", tmp_path / "a.png", "--mask", tmp_path / "h.png")
    where = ("--model", model, "--output", tmp_path / "o.png")
    assert rad("inpaint", *where, *files, "--steps", 3)[0] == 0
    with Image.open(tmp_path / "o.png") as image:
        filled = np.asarray(image)
    np.testing.assert_array_equal(filled[hole == 0], picture[hole == 0])
    assert np.std(filled[hole == 255]) > 0


def test_a_run(quickly, changes, tmp_path):
    """Its loss is a number, and no step moves the Fourier frequencies."""
    one = ("model.channel_mult=(1,)", "model.attention_resolutions=()")
    overrides = changes("train.num_steps=2", *one)
    train(load_config(f"{CONFIG}:ve", overrides), tmp_path / "run", StopRequest())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(0 < json.loads(line)["loss"] < 3 for line in lines) and len(lines) == 2
    model = load_diffusion(tmp_path / "run")
    # Of the same seed, as `init_state` draws them.
    new = init_params(model.config, jax.random.fold_in(jax.random.key(0), 0))
    before, after = (each["time_embed"] for each in (new, model.params))
    np.testing.assert_array_equal(after["frequencies"], before["frequencies"])
    moved = (each["conv_out"]["kernel"] for each in (new, model.params))
    assert np.any(np.not_equal(*moved))


@pytest.mark.slow
@pytest.mark.parametrize("base", ["ve", "vp"])
def test_from_a_plain_model_to_rad(base, quickly, trains, rad, digits_dir, tmp_path):
    """Pretrained, adapted by LoRA, its holes filled, scored beside another method."""
    plain = ("mask.kind=full", "schedule.known_steps=0")
    assert trains(base, tmp_path / "plain", *plain)[0] == 0
    lora = (
        f"pretrained={tmp_path / 'plain'}",
        "lora.rank=2",
        "optimizer.clip_norm=0.5",
    )
    assert trains(base, tmp_path / "rad", *lora)[0] == 0
    model = load_diffusion(tmp_path / "rad")
    assert model.schedule.kind == base and model.schedule.known_steps == 1000
    lines = (tmp_path / "rad" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 4 and all(0 < x < 3 for x in losses)
    if base == "ve":  # which no step has moved
        before = load_diffusion(tmp_path / "plain").params["time_embed"]
        after = model.params["time_embed"]
        np.testing.assert_array_equal(after["frequencies"], before["frequencies"])

    fills(rad, tmp_path, tmp_path / "rad")
    data = ("--data", "digits", "--data_dir", digits_dir, "--num_images", 4)
    where = ("--model", tmp_path / "rad", "--output", tmp_path / "scores")
    assert rad("evaluate", *where, *data, "--masks", "box", "--steps", 2)[0] == 0
    results = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert 0 <= results["masks"]["box"]["accuracy"]["mean"] <= 1
    where = ("--model", tmp_path / "plain", "--output", tmp_path / "repaint")
    other = ("--method", "repaint", "--set", "variance=small", "--set", "steps=3")
    assert rad("evaluate", *where, *data, "--masks", "box", *other)[0] == 0
    flags = ("--to", "adapters", "--output", tmp_path / "adapters")
    code, _, err = rad("convert", "--input", tmp_path / "rad", *flags)
    assert code == 2 and "architecture ncsnpp, of whose layers PEFT" in err[0]
    # Another process, and another network, than the base's.
    other = f"pretrained={tmp_path / 'plain'}"
    if base == "ve":
        _, _, err = trains("ve", tmp_path / "x", other, "schedule.sigmas=(0.01, 30.0)")
        assert "schedule.sigmas is (0.01, 20.0) there, (0.01, 30.0) here" in err[0]
    _, _, err = trains({"ve": "vp", "vp": "ve"}[base], tmp_path / "x", other)
    assert "model.embedding is" in err[0] and "schedule.kind is" in err[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "changed"),
    [
        ("vp", {"schedule.kind": "subvp"}),
        ("ve", {"schedule.kind": "ve_index", "model.embedding": "positional"}),
        (
            "vp",  # score_sde's DDPM
            {
                "schedule.kind": "linear",
                "model.block": "ddpm",
                "model.skip_rescale": False,
                "model.groups": 8,
            },
        ),
    ],
    ids=["subvp", "ve_index", "ddpm"],
)
def test_bases_without_a_config(base, changed, quickly, trains, rad, tmp_path):
    """Trained by overrides, and a hole filled."""
    overrides = (f"{name}={value}" for name, value in changed.items())
    assert trains(base, tmp_path / "run", *overrides)[0] == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 4 and all(0 < x < 3 for x in losses)
    assert load_diffusion(tmp_path / "run").schedule.kind == changed["schedule.kind"]
    fills(rad, tmp_path, tmp_path / "run")


@pytest.mark.parametrize("base", BASES)
def test_configs_come_back(base, changes):
    more = [] if base in ("ve", "vp") else ["--config.model.num_head_channels=8"]
    overrides = [x for x in changes() if "model" not in x or base in ("ve", "vp")]
    experiment = load_config(f"{CONFIG}:{base}", [*overrides, *more])
    assert from_dict(to_dict(experiment)) == experiment


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        ("ve", "loss.vlb_weight=1.0", "does not predict; set loss.vlb_weight to 0"),
        (
            "vp",
            "model.embedding=fourier",
            "model.embedding=fourier and schedule.kind=vp",
        ),
        ("vp", "schedule.kind=ve", "model.embedding=positional and schedule.kind=ve"),
        ("adm", "schedule.kind=ve", "model.architecture=adm does not know; use ncsnpp"),
        ("adm", "schedule.kind=vp", "continuous time of vp has not; set it to 0"),
        ("ve", "schedule.sigmas=(3.0, 1.0)", "schedule.sigmas is (3.0, 1.0)"),
        ("vp", "schedule.unit_input=True", "schedule.unit_input is of ve and ve_index"),
        ("ve", "model.architecture=unet", "model.architecture is 'unet'; use one of"),
        ("ve", "optimizer.weight_decay=0.1", "would move the Fourier frequencies"),
        ("sd", "seed=1", "base is 'sd'; use one of adm, iddpm, vp, ve"),
    ],
)
def test_what_makes_no_base(base, change, message):
    with pytest.raises(UserError) as error:
        load_config(f"{CONFIG}:{base}", [f"--config.{change}"])
    assert message in str(error.value), error.value


def test_all_times_are_drawn(changes):
    """Of both phases, uniformly, the moving pixels' levels between those of steps."""
    schedule = make_schedule(load_config(f"{CONFIG}:ve", []).schedule)
    keys = jax.random.split(jax.random.key(0), 4000)
    step = jax.vmap(continuous_time(schedule))(keys)
    counts = np.bincount(bucket(step, schedule), minlength=len(BUCKETS))
    assert (np.abs(counts - 500) < 5 * np.sqrt(500)).all(), counts
    hole = np.asarray(step.t.hole)
    assert len(set(hole[np.asarray(step.time) <= 1000].tolist())) > 1900
    last = np.asarray(step.time) > 1000
    np.testing.assert_array_equal(hole[last], np.float32(schedule.log_total))
    assert (np.asarray(step.t.known)[~last] == 0).all()
    assert (np.asarray(step.t.known)[last] < 0).all()


def test_a_base_of_another_process_or_network_is_refused(changes, tmp_path):
    """Naming the keys, before anything is trained."""
    experiment = load_config(f"{CONFIG}:ve", changes())
    params = random_params(abstract_params(experiment.model))
    base = Model(experiment.model, experiment.schedule, "score", params)
    write_model(tmp_path / "base", base, {})
    given = f"pretrained={tmp_path / 'base'}"
    assert load_pretrained(load_config(f"{CONFIG}:ve", changes(given)))[:3] == base[:3]
    for config, more, message in (
        ("ve", "schedule.sigmas=(0.01, 30.0)", "schedule.sigmas is (0.01, 20.0) there"),
        ("ve", "schedule.unit_input=False", "schedule.unit_input is True there, False"),
        ("ve", "model.progressive_input=none", "model.progressive_input is residual"),
        ("vp", "seed=1", "model.embedding is fourier there, positional here"),
        ("vp", "seed=2", "schedule.kind is ve there, vp here"),
    ):
        other = load_config(f"{CONFIG}:{config}", changes(given, more))
        with pytest.raises(UserError) as error:
            load_pretrained(other)
        assert message in str(error.value), error.value
    adm = load_config(DIGITS, [f"--config.{given}"])
    with pytest.raises(UserError, match="architecture is ncsnpp there, adm here"):
        load_pretrained(adm)
