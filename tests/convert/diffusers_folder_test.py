"""`rad-jax convert` of folders of diffusers, as `save_pretrained` leaves them."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from rad_jax.checkpoints.model_folder import read_record
from rad_jax.convert.diffusers import diffusers_to_params
from tests.convert.small import CONFIG, diffusers, openai, read_quick
from tests.weight_files.pickles import saved

pytestmark = pytest.mark.usefixtures("quick_folders")

WEIGHTS = diffusers()
SETTINGS = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.27.2",
    "act_fn": "silu",
    "attention_head_dim": 32,
    "block_out_channels": [32],
    "class_embed_type": None,
    "down_block_types": ["DownBlock2D"],
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "layers_per_block": 1,
    "norm_eps": 1e-05,
    "num_class_embeds": None,
    "out_channels": 6,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 8,
    "up_block_types": ["UpBlock2D"],
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "trained_betas": None,
}
STEM = "diffusion_pytorch_model"


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(text)


def without(settings, *names):
    return {name: x for name, x in settings.items() if name not in names}


@pytest.fixture
def pipeline(tmp_path):
    """``pipeline(settings, scheduler)`` writes a folder ``p`` of a pipeline."""

    def write(settings=SETTINGS, scheduler=SCHEDULER, weights=WEIGHTS):
        write_json(tmp_path / "p" / "unet" / "config.json", settings)
        if scheduler is not None:
            place = tmp_path / "p" / "scheduler" / "scheduler_config.json"
            write_json(place, scheduler)
        path = tmp_path / "p" / "unet" / f"{STEM}.safetensors"
        safetensors.numpy.save_file(weights, path)
        return tmp_path / "p" / "unet"

    return write


def assert_converted(folder, kind="linear", expected=WEIGHTS, prediction="eps"):
    model = read_quick(folder)
    assert model.config.differences(CONFIG) == {}
    assert (model.schedule.kind, model.parametrisation) == (kind, prediction)
    jax.tree.map(
        np.testing.assert_array_equal,
        model.params,
        diffusers_to_params(CONFIG, expected),
    )


@pytest.mark.parametrize(
    "source, scheduler, kind, prediction",
    [
        ("p", SCHEDULER, "linear", "eps"),
        ("p/unet", SCHEDULER | {"prediction_type": "v_prediction"}, "linear", "v"),
        (
            "p",
            SCHEDULER | {"beta_schedule": "squaredcos_cap_v2", "beta_start": 0.1},
            "cosine",
            "eps",
        ),
    ],
)
def test_pipelines(tmp_path, pipeline, converts, source, scheduler, kind, prediction):
    pipeline(scheduler=scheduler)
    out = converts(source, "m")
    assert "from its folder: image_size 8, num_heads 4, num_head_channels 32" in out
    assert f"noise_schedule {kind}" in out
    assert_converted(tmp_path / "m", kind, prediction=prediction)
    provenance = read_record(tmp_path / "m")["provenance"]
    assert provenance["file"] == f"{STEM}.safetensors"
    assert provenance["layout"] == "diffusers"


FILES = {
    "bin": [f"{STEM}.bin"],
    "fp16": [f"{STEM}.fp16.safetensors"],
    "float32 before fp16": [f"{STEM}.fp16.safetensors", f"{STEM}.safetensors"],
    "float32 before fp16, other formats": [f"{STEM}.fp16.safetensors", f"{STEM}.bin"],
    "shards": [f"{STEM}-00001-of-00002.bin", f"{STEM}-00002-of-00002.bin"],
    "shards of fp16": [f"{STEM}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)],
}


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_files_of_weights(tmp_path, pipeline, converts, name, index):
    """Half precision stands for other numbers here, to see which were taken."""
    unet = pipeline()
    (unet / f"{STEM}.safetensors").unlink()
    files = FILES[name]
    shards = "shards" in name
    weight_map = {}
    for i, file in enumerate(files):
        kind = np.float16 if "fp16" in file else np.float32
        state = {key: x.astype(kind) for key, x in WEIGHTS.items()}
        if shards:
            state = dict(list(state.items())[i::2])
        weight_map |= dict.fromkeys(state, file)
        if file.endswith(".bin"):
            saved(unet / file, state)
        else:
            safetensors.numpy.save_file(state, unet / file)
    if shards and index:
        variant = ".fp16" if "fp16" in name else ""
        suffix = files[0].rpartition(".")[2]
        path = unet / f"{STEM}.{suffix}.index{variant}.json"
        write_json(path, {"weight_map": weight_map})
    converts("p", "m")
    half = all("fp16" in file for file in files)
    kind = np.float16 if half else np.float32
    expected = {key: x.astype(kind) for key, x in WEIGHTS.items()}
    assert_converted(tmp_path / "m", expected=expected)


def test_without_a_scheduler_the_schedule_is_asked_for(
    tmp_path, pipeline, refuses, converts
):
    pipeline(scheduler=None)
    match = f"{tmp_path / 'p'}: has no scheduler/scheduler_config.json; give --noise_sc"
    refuses("p", "m", match=match)
    match = "schedule.kind is 'square'; use one of linear, cosine"
    refuses("p", "m", "--noise_schedule", "square", match=match)
    converts("p", "m", "--noise_schedule", "cosine")
    assert_converted(tmp_path / "m", "cosine")


def test_without_a_size_it_is_asked_for(tmp_path, pipeline, refuses, converts):
    pipeline(SETTINGS | {"sample_size": None})
    refuses("p", "m", match="unet/config.json: has no sample_size; give --image_size")
    converts("p", "m", "--image_size", "8")
    assert_converted(tmp_path / "m")


def test_one_head_where_their_channels_are_not_given(tmp_path, pipeline, converts):
    pipeline(SETTINGS | {"attention_head_dim": None})
    converts("p", "m")
    config = read_quick(tmp_path / "m").config
    assert (config.num_heads, config.num_head_channels) == (1, -1)


def test_flags_that_agree(tmp_path, pipeline, converts):
    pipeline()
    agreeing = ["--image_size", "8", "--num_head_channels", "32", "--dropout", "0"]
    order = ["--use_new_attention_order", "false", "--noise_schedule", "linear"]
    out = converts("p", "m", *agreeing, *order)
    assert "by hand: image_size 8, num_head_channels 32, use_new_attention" in out
    assert not read_quick(tmp_path / "m").config.use_new_attention_order


@pytest.mark.parametrize(
    "flags, match",
    [
        (["--image_size", "16"], "--image_size is 16, but 8 in "),
        (["--noise_schedule", "cosine"], "--noise_schedule is cosine, but linear in "),
        (["--num_head_channels", "8"], "--num_head_channels is 8, but 32 in "),
        (["--num_heads", "4"], "--num_heads is 4, but num_head_channels is 32 in "),
        (["--dropout", "0.5"], "--dropout is 0.5, but 0.0 in "),
        (
            ["--preset", "ffhq256"],
            "p: --preset has no use with a folder of diffusers, w",
        ),
        (
            ["--to", "torch"],
            "p: is a folder of diffusers; --to is for a folder of rad_",
        ),
        (
            ["--base", "m"],
            "p: is a folder of diffusers; --base is for a folder of rad_",
        ),
        (["--key", "ema"], f"{STEM}.safetensors: has no weights at --key ema"),
    ],
)
def test_flags_that_do_not_fit(pipeline, refuses, flags, match):
    pipeline()
    refuses("p", "m", *flags, match=match)


@pytest.mark.parametrize(
    "settings, match",
    [
        (b"{", "config.json: is no configuration of diffusers; get it again"),
        (b"[" * 10**5, "config.json: is no configuration of diffusers"),
        (b" " * (2**20 + 1), "config.json: is no configuration of diffusers"),
        ([], "config.json: is no configuration of diffusers"),
        ({}, "config.json: has no sample_size; give --image_size"),
        ({"sample_size": 8}, "config.json: config lacks the key in_channels"),
        (
            SETTINGS | {"_class_name": "UNet2DConditionModel"},
            "config.json: is of another network than UNet2DModel",
        ),
        (SETTINGS | {"_class_name": 7}, "is of another network than UNet2DModel"),
        *(
            (without(SETTINGS, name), f"config.json: config lacks the key {name}")
            for name in (
                *("down_block_types", "up_block_types", "block_out_channels"),
                *("out_channels", "layers_per_block", "attention_head_dim"),
            )
        ),
        (
            SETTINGS | {"sample_size": [8, 8]},
            "sample_size is [8, 8]; it must be of type",
        ),
        (
            SETTINGS | {"layers_per_block": "1"},
            "layers_per_block is '1'; it must be of",
        ),
        (SETTINGS | {"layers_per_block": True}, "layers_per_block is True; it must be"),
        (SETTINGS | {"block_out_channels": 32}, "block_out_channels is 32; it must be"),
        (
            SETTINGS | {"block_out_channels": ["32"]},
            "block_out_channels[0] is '32'; it",
        ),
        (
            SETTINGS | {"block_out_channels": [0]},
            "block_out_channels has 0; it must be",
        ),
        (SETTINGS | {"block_out_channels": []}, "must be lists of one length, at most"),
        (
            SETTINGS | {"up_block_types": [["x" * 10**5]]},
            "up_block_types[0] is ['xxxxx",
        ),
        (
            SETTINGS | {"down_block_types": ["x" * 10**5]},
            "the block type xxxxxxxxxxxxx",
        ),
        (
            SETTINGS | {"act_fn": "x" * 10**5},
            "act_fn is 'xxxxxxxxxxxx...xxxxxxxxxxxxx'",
        ),
        (SETTINGS | {"norm_eps": 1e-6}, "norm_eps is 1e-06; only 1e-05 is supported"),
        (SETTINGS | {"num_class_embeds": "10"}, "num_class_embeds is '10'; it must be"),
        (
            SETTINGS | {"layers_per_block": 10**9},
            "does not match config.json: num_res_blocks is 1, config.json's 1000000000",
        ),
        (
            SETTINGS | {"out_channels": 3},
            "does not match config.json: learn_sigma is True, config.json's False",
        ),
        (
            SETTINGS | {"attention_head_dim": 5},
            "num_head_channels is 5; it must divide",
        ),
    ],
)
def test_configurations_that_are_refused(pipeline, refuses, settings, match):
    pipeline(settings)
    refuses("p", "m", match=match)


@pytest.mark.parametrize(
    "scheduler, match",
    [
        (b"[]", "scheduler_config.json: is no configuration of diffusers"),
        ({}, "scheduler_config.json: config lacks the key beta_schedule"),
        (
            SCHEDULER | {"beta_schedule": "scaled_linear"},
            "scheduler_config.json: beta_schedule is 'scaled_linear'; only linear and",
        ),
        (
            SCHEDULER | {"beta_schedule": None},
            "beta_schedule is None; it must be of typ",
        ),
        (
            SCHEDULER | {"beta_end": 0.012},
            "beta_start and beta_end are (0.0001, 0.012);",
        ),
        (
            SCHEDULER | {"beta_start": "0"},
            "beta_start is '0'; it must be of type float",
        ),
        (
            SCHEDULER | {"num_train_timesteps": 4000},
            "num_train_timesteps is 4000; only 1",
        ),
        (
            SCHEDULER | {"prediction_type": "sample"},
            "prediction_type is 'sample'; only e",
        ),
        (
            SCHEDULER | {"trained_betas": [0.1]},
            "trained_betas is [0.1]; it must be of ty",
        ),
        (
            SCHEDULER | {"rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr is not su",
        ),
    ],
)
def test_schedulers_that_are_refused(pipeline, refuses, scheduler, match):
    pipeline(scheduler=scheduler)
    refuses("p", "m", match=match)


def test_weights_of_another_layout(pipeline, refuses):
    pipeline(weights=openai())
    match = "has guided-diffusion's keys; config.json is of diffusers"
    refuses("p", "m", match=match)


def test_a_folder_without_weights(pipeline, refuses):
    path = pipeline() / f"{STEM}.safetensors"
    path.rename(path.with_name(f"{STEM}.msgpack"))
    match = f"unet: has no {STEM}.safetensors and no {STEM}.bin"
    refuses("p", "m", match=match)
