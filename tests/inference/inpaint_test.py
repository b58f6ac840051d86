"""``rad_jax.load`` and ``rad_jax.inpaint`` with a real, tiny network."""

import dataclasses
import shutil
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from PIL import Image

import rad_jax
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.options import SamplerConfig, SamplingOptions
from rad_jax.diffusion.sampling import STEP_BUCKET
from rad_jax.errors import UserError
from rad_jax.inference import inpaint as inpainting
from rad_jax.inference.compiled import compiled_fill
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.inpaint import fill, prepare_steps
from rad_jax.inference.samplers import default_sampler
from rad_jax.jobs.inpaint_command import inpaint_files, prepare_files
from rad_jax.models.network import abstract_params
from rad_jax.runtime.sharding import everywhere, local_mesh
from tests.conftest import compiling
from tests.models.unet_test import equations
from tests.runtime.memory_test import Limited

pytestmark = pytest.mark.usefixtures("quickly")

H, W = 17, 23
STEPS = 3


@pytest.fixture(scope="module")
def model(tiny_experiment):
    """Random weights, and a stride of 2 that pads the picture."""
    experiment = tiny_experiment()
    config = dataclasses.replace(experiment.model, channel_mult=(1, 1))
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(random.normal(0, 0.1, x.shape), x.dtype),
        abstract_params(config),
    )
    return Model(config, experiment.schedule, "eps", params)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (H, W, 1), np.uint8)


@pytest.fixture(scope="module")
def hole():
    mask = np.zeros((H, W), bool)
    mask[5:12, 3:20] = True
    return mask


def inpaint(model, image, mask, seed=0, **options):
    arguments: dict[str, Any] = {"steps": STEPS, "num_samples": 2, **options}
    return rad_jax.inpaint(model, image, mask, key=jax.random.key(seed), **arguments)


def test_the_average_of_the_last_checkpoint_is_loaded(tiny_run):
    workdir, state = tiny_run
    model = rad_jax.load(workdir)
    jax.tree.map(np.testing.assert_array_equal, model.params, state.ema)
    assert isinstance(model, Model)
    assert model.channels == 1 and model.parametrisation == "eps"


def test_a_model_folder_is_loaded(model, tmp_path):
    half = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16) if x.ndim > 1 else x, model.params
    )
    write_model(tmp_path / "m", Model(model.config, model.schedule, "v", half), {})
    loaded = rad_jax.load(tmp_path / "m")
    assert loaded[:3] == (model.config, model.schedule, "v")
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True),
                 loaded.params, half)  # fmt: skip


def test_parameters_are_put_on_the_devices_once(model, tiny_run, tmp_path):
    """What `fill` does to them at every call is nothing, not a copy of gigabytes."""
    folder = tmp_path / "m"
    write_model(folder, Model(model.config, model.schedule, "eps", model.params), {})
    here = everywhere(local_mesh())
    for source in (folder, tiny_run[0]):
        params = rad_jax.load(source).params
        again = jax.device_put(params, here)
        for one, other in zip(*map(jax.tree.leaves, (params, again)), strict=True):
            assert one.sharding == here
            assert one.unsafe_buffer_pointer() == other.unsafe_buffer_pointer()


def test_bytes_stay_bytes_and_known_pixels_what_they_are(model, picture, hole):
    filled = inpaint(model, picture, hole)
    assert filled.shape == (2, H, W, 1) and filled.dtype == np.uint8
    for one in filled:
        np.testing.assert_array_equal(one[~hole], picture[~hole])
        assert (one[hole] != picture[hole]).mean() > 0.9
    assert (filled[0] != filled[1])[hole].mean() > 0.5


def test_floats_stay_floats_bit_for_bit(model, picture, hole):
    image = np.random.default_rng(1).uniform(-1, 1, picture.shape).astype(np.float32)
    filled = inpaint(model, image, hole)
    assert filled.dtype == np.float32
    for one in filled:
        np.testing.assert_array_equal(
            one[~hole].view(np.uint32), image[~hole].view(np.uint32)
        )
        assert np.isfinite(one).all() and (one[hole] != image[hole]).all()


def test_content_of_the_hole_does_not_matter(model, picture, hole):
    expected = inpaint(model, picture, hole)
    other = picture.copy()
    other[hole] = 255 - other[hole]
    np.testing.assert_array_equal(inpaint(model, other, hole), expected)
    floats = inpaint(model, picture / np.float32(127.5) - 1, hole)
    empty = picture / np.float32(127.5) - 1
    empty[hole] = np.nan
    np.testing.assert_array_equal(inpaint(model, empty, hole), floats)


def test_seed_and_known_pixels_matter(model, picture, hole):
    expected = inpaint(model, picture, hole)
    np.testing.assert_array_equal(inpaint(model, picture, hole), expected)
    assert (inpaint(model, picture, hole, seed=1) != expected)[:, hole].any()
    other = np.where(hole[..., None], picture, 255 - picture)
    assert (inpaint(model, other, hole) != expected)[:, hole].any()


def test_samples_do_not_depend_on_their_number(model, picture, hole):
    image = picture / np.float32(127.5) - 1
    two = inpaint(model, image, hole)
    one = inpaint(model, image, hole, num_samples=1)
    # Another batch size sums in another order.
    np.testing.assert_allclose(one, two[:1], atol=1e-5)


def test_images_of_a_batch_do_not_mix(model, picture, hole):
    image = jnp.asarray(picture[1:, 1:] / np.float32(127.5) - 1)
    mask = jnp.asarray(hole[1:, 1:], jnp.float32)
    keys = jax.random.split(jax.random.key(5), 2)

    def run(other, other_mask):
        images = jnp.stack([image, other])
        masks = jnp.stack([mask, other_mask])
        return np.asarray(fill(model, images, masks, keys, steps=STEPS))

    a, b = run(image, mask), run(-image, 1 - mask)
    np.testing.assert_array_equal(a[0], b[0])
    assert (a[1] != b[1]).any()


def test_dense_path_is_the_binary_one(model, picture, hole):
    """One soft pixel, in the other image of the batch, makes all of it dense."""
    images = jnp.stack([jnp.asarray(picture[1:, 1:] / np.float32(127.5) - 1)] * 2)
    masks = np.stack([hole[1:, 1:]] * 2).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    binary = np.asarray(fill(model, images, jnp.asarray(masks), keys, steps=STEPS))
    masks[1, 0, 0] = 0.5
    compiled_fill.cache_clear()
    dense = compiled_fill(
        model.config, model.schedule, default_sampler(model), False, False, None
    )
    soft = np.asarray(fill(model, images, jnp.asarray(masks), keys, steps=STEPS))
    assert dense._cache_size() == 1
    np.testing.assert_allclose(soft[0], binary[0], atol=1e-3)
    known = masks[1] == 0
    np.testing.assert_array_equal(soft[1][known], images[1][known])
    assert np.isfinite(soft).all() and (soft[1] != binary[1]).any()
    assert soft[1][0, 0] != images[1][0, 0]


def test_one_timestep_for_the_whole_image(model, picture, hole):
    """Told the time alone, the network sees where the noise is, or does not."""
    config = dataclasses.replace(model.config, noise_embedding="time")
    told = model._replace(config=config)
    # All of it a hole, both are plain ADM.
    images, masks = jnp.zeros((2, H + 1, W + 1, 1)), jnp.ones((2, H + 1, W + 1))
    keys = jax.random.split(jax.random.key(0), 2)
    a, b = (fill(each, images, masks, keys, steps=STEPS) for each in (model, told))
    np.testing.assert_allclose(a, b, atol=1e-4)
    image = picture / np.float32(127.5) - 1
    filled = inpaint(told, image, hole)
    np.testing.assert_array_equal(filled[:, ~hole], np.stack([image[~hole]] * 2))
    assert (np.abs(filled - inpaint(model, image, hole))[:, hole] > 0.01).mean() > 0.3
    # A soft mask takes the same program.
    programs = compiled_fill.cache_info().misses
    soft = hole * np.float32(0.5)
    filled = inpaint(told, image, soft)
    np.testing.assert_array_equal(filled[:, ~hole], np.stack([image[~hole]] * 2))
    assert np.isfinite(filled).all() and (filled != image)[:, hole].mean() > 0.9
    assert compiled_fill.cache_info().misses == programs


def test_parameters_are_rounded_before_the_loop(model):
    """On an NVIDIA GPU they were in every step of it."""
    config = dataclasses.replace(model.config, dtype="bfloat16")
    sampler, keys = default_sampler(model), jax.random.split(jax.random.key(0), 2)
    run = compiled_fill(config, model.schedule, sampler, True, False)
    stack, start = prepare_steps(model, SamplingOptions(2).for_model(), STEP_BUCKET)
    given = jnp.zeros((2, H + 1, W + 1, 1)), jnp.ones((2, H + 1, W + 1)), keys, None
    jaxpr = jax.make_jaxpr(run)(model.params, stack, start, *given).jaxpr
    kernels = {x.shape for x in jax.tree.leaves(model.params) if x.ndim in (2, 4)}

    def rounded(equations):
        return [
            x.invars[0].aval.shape
            for x in equations
            if x.primitive.name == "convert_element_type"
            and x.outvars[0].aval.dtype == jnp.bfloat16
            and x.invars[0].aval.shape in kernels
        ]

    found = list(equations(jaxpr))
    [loop] = [x for x in found if x.primitive.name in ("scan", "while")]
    inner = [x for y in jaxprs_in_params(loop.params) for x in equations(y)]
    assert len(rounded(found)) > 10 and not rounded(inner)


def test_one_program_serves_step_counts_masks_and_images(model, picture, hole):
    inpaint(model, picture, hole)
    sampler = default_sampler(model)
    program = compiled_fill(model.config, model.schedule, sampler, True, False)
    before = program._cache_size()
    inpaint(model, 255 - picture, ~hole, seed=3, steps=1)
    inpaint(model, picture, hole, steps=STEP_BUCKET, grid="quadratic")
    assert program._cache_size() == before


def test_a_whole_hole_and_none(model, picture, hole):
    everything = inpaint(model, picture, np.ones_like(hole))
    assert (everything != picture).mean() > 0.9
    nothing = inpaint(model, picture, np.zeros_like(hole))
    np.testing.assert_array_equal(nothing, np.stack([picture, picture]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image": np.zeros((H, W), np.uint8)}, r"image has shape \(17, 23\); the mo"),
        ({"image": np.zeros((H, W, 3), np.uint8)}, r"takes \(h, w, 1\)"),
        ({"mask": np.zeros((W, H))}, r"mask has shape \(23, 17\), the image \(17, 23"),
        ({"mask": np.full((H, W), 255)}, r"mask has values outside \[0, 1\]; 1 is"),
        ({"mask": np.full((H, W), np.nan)}, r"mask has values outside \[0, 1\]"),
        ({"image": np.full((H, W, 1), 200)}, r"uint8, or float32 with values in \[-1"),
        ({"image": np.full((H, W, 1), np.nan)}, r"float32 with values in \[-1, 1\]"),
        ({"steps": 0}, r"steps is 0; it must lie in 1 .. 1000"),
        ({"steps": 1001}, r"steps is 1001; it must lie in 1 .. 1000"),
        ({"num_samples": 0}, r"num_samples is 0; it must be >= 1"),
        ({"grid": "cubic"}, r"grid is 'cubic'; use one of uniform"),
    ],
)
def test_what_does_not_fit_is_explained(model, picture, hole, change, message):
    arguments = {"image": picture, "mask": hole} | change
    with pytest.raises(UserError, match=message):
        inpaint(model, **arguments)


def test_empty_picture_is_explained(model):
    with pytest.raises(UserError, match="image has shape"):
        inpaint(model, np.zeros((0, 5, 1), np.uint8), np.zeros((0, 5)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "euler"}, "method is 'euler'; use one of ddpm, ddim"),
        ({"variance": "none"}, "variance is 'none'; use one of learned"),
        ({"eta": 2.0}, r"eta is 2.0; it must lie in \[0, 1\]"),
    ],
)
def test_unknown_samplers_are_explained(options, message):
    with pytest.raises(UserError, match=message):
        SamplerConfig(**options)


def test_learned_variance_must_have_been_learned(model, picture, hole):
    config = dataclasses.replace(model.config, learn_sigma=False)
    fixed = model._replace(config=config)
    assert default_sampler(fixed).variance == "small"
    with pytest.raises(UserError, match="no learned variance; use variance 'small'"):
        inpaint(fixed, picture, hole, sampler=SamplerConfig(variance="learned"))


def test_the_sampler_fits_the_model(model):
    found = default_sampler(model._replace(parametrisation="v"), "ddim", 0.5)
    assert found == SamplerConfig("ddim", 0.5, "learned", "v")


# Files, in batches.


@pytest.fixture
def run_files(model, tmp_path):
    """``run_files("out", batch_size=2)``: fills a folder's five pictures."""
    random = np.random.default_rng(2)
    for i in range(5):
        picture = random.integers(0, 256, (12, 10), np.uint8)
        for folder, array in (("i", picture), ("m", random.random((12, 10)) < 0.4)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{i}.png")

    def run(output, **changes):
        of_sampling = {"steps", "sampler", "grid", "eta"} & changes.keys()
        sampling = SamplingOptions(steps=STEPS)
        sampling = replace(
            sampling, **{name: changes.pop(name) for name in of_sampling}
        )
        files = replace(FileOptions(batch_size=2), **changes)
        image, mask = tmp_path / "i", tmp_path / "m"
        prepared = prepare_files(model, sampling, files)
        assert inpaint_files(prepared, image, mask, tmp_path / output) == 0
        return tmp_path / output

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


def test_a_folder_compiles_the_sampler_once(run_files):
    """The last batch lacks a picture; masks, seeds and step counts are data."""
    with compiling() as names:
        run_files("one")
    assert names.count("jit(run)") == 1
    with compiling() as names:
        run_files("two", seed=7, steps=2, invert_mask=True, num_samples=2)
        run_files("three", steps=10, grid="quadratic")
    assert names == []


def test_the_grid_says_where_the_steps_lie(run_files):
    """In the pictures, not only in what they say of themselves."""
    filled = {}
    for grid in ("uniform", "quadratic"):
        with Image.open(run_files(grid, steps=10, grid=grid) / "0.png") as image:
            assert image.info["Sampler"] == f"ddpm, 10 steps, grid {grid}"
            filled[grid] = np.asarray(image)
    assert (filled["uniform"] != filled["quadratic"]).any()


def test_eta_puts_noise_into_ddim(run_files):
    filled = {}
    for eta in (0.0, 1.0):
        folder = run_files(f"eta{eta}", steps=10, sampler="ddim", eta=eta)
        with Image.open(folder / "0.png") as image:
            said = image.info["Sampler"]
            filled[eta] = np.asarray(image)
    assert said == "ddim, 10 steps, grid uniform, eta 1"
    assert (filled[0.0] != filled[1.0]).any()


@pytest.fixture
def limit(model, monkeypatch):
    """``limit(2)``: the sampler fails with more images than that."""

    def limit(most):
        real = compiled_fill(
            model.config, model.schedule, default_sampler(model), True, False
        )
        limited = Limited(real, most)
        monkeypatch.setattr(inpainting, "compiled_fill", lambda *_: limited)
        return limited

    return limit


def test_too_little_memory_for_the_batch(run_files, limit, capsys):
    """The files are those of a batch that fits."""
    fits = contents(run_files("fits", batch_size=2))
    assert len(fits) == 5
    capsys.readouterr()
    limited = limit(2)
    assert contents(run_files("out", batch_size=4)) == fits
    assert limited.lengths == [4, 2, 2, 2, 2]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("rad-jax: needs about ")
    assert lines[1] == "rad-jax: out of memory with 4 images at once, trying 2"
    assert len([line for line in lines if line.startswith("rad-jax: ")]) == 2


def test_too_little_memory_for_one_picture(run_files, limit, tmp_path, capsys):
    """What was done before is there, whole, and nothing else is."""
    fits = contents(run_files("fits", batch_size=2))
    limit(2).calls = 2  # then somebody else takes the memory
    with pytest.raises(UserError, match="out of memory with one image on each device"):
        run_files("out", batch_size=2)
    assert contents(tmp_path / "out") == {
        name: fits[name] for name in ("0.png", "1.png", "2.png", "3.png")
    }
    assert f"{tmp_path / 'out'}/: 4 images" in capsys.readouterr().out


# Models with classes, and those that cannot inpaint.


@pytest.fixture(scope="module")
def with_classes(model):
    config = dataclasses.replace(model.config, num_classes=3)
    params = dict(model.params)
    table = np.random.default_rng(1).standard_normal((3, config.embedding_channels))
    params["label_embed"] = {"embedding": jnp.float32(table)}
    return model._replace(config=config, params=params)


@pytest.mark.slow
def test_each_image_has_its_label(with_classes, picture, hole):
    images = jnp.stack([jnp.asarray(picture[1:, 1:] / np.float32(127.5) - 1)] * 2)
    masks = np.stack([hole[1:, 1:]] * 2).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 2)

    def run(labels, masks=masks):
        labels = jnp.asarray(labels, jnp.int32)
        found = fill(
            with_classes, images, jnp.asarray(masks), keys, labels=labels, steps=STEPS
        )
        return np.asarray(found)

    a, b = run([0, 1]), run([2, 1])
    assert (a[0] != b[0])[hole[1:, 1:]].mean() > 0.2  # many are clipped
    np.testing.assert_array_equal(a[1], b[1])
    soft = masks.copy()
    soft[:, 0, 0] = 0.5
    dense = run([0, 1], soft), run([2, 1], soft)
    assert (dense[0][0] != dense[1][0]).any()
    np.testing.assert_array_equal(dense[0][1], dense[1][1])


def test_one_label_for_all_samples(with_classes, picture, hole):
    one, other = (inpaint(with_classes, picture, hole, label=i) for i in (0, 2))
    for sample in (0, 1):
        assert (one[sample] != other[sample])[hole].mean() > 0.2


@pytest.mark.parametrize(
    "label, message",
    [
        (None, r"the model has 3 classes; give a label, 0 \.\. 2$"),
        (3, r"there is no class 3; the model's are 0 \.\. 2$"),
        (-1, "there is no class -1"),
        (10**30, "there is no class 10{30};"),
    ],
)
def test_labels_that_do_not_fit(with_classes, picture, hole, label, message):
    with pytest.raises(UserError, match=message):
        inpaint(with_classes, picture, hole, label=label)
    batch = jnp.zeros((2, 4, 4, 1)), jnp.ones((2, 4, 4))
    keys = jax.random.split(jax.random.key(0), 2)
    if label is None or label < 10:
        labels = None if label is None else jnp.array([0, label])
        with pytest.raises(UserError, match=message):
            fill(with_classes, *batch, keys, labels=labels)


def test_labels_for_a_model_without_classes(model, picture, hole):
    with pytest.raises(UserError, match="the model has no classes; give no label"):
        inpaint(model, picture, hole, label=0)


def test_upsamplers_cannot_inpaint(model, picture, hole):
    config = dataclasses.replace(model.config, in_channels=2)
    upsampler = model._replace(config=config)
    assert upsampler.channels == 1
    match = "takes 2 channels and gives 1: it enlarges images and cannot inpaint them"
    with pytest.raises(UserError, match=match):
        inpaint(upsampler, picture, hole)


# Folders.


def test_folders_without_a_model_are_explained(tmp_path, tiny_run):
    with pytest.raises(UserError, match="missing: no such folder; check the name"):
        rad_jax.load(tmp_path / "missing")
    match = (
        r"is neither a model folder \(it has no model.json\) nor the workdir of a tr"
    )
    with pytest.raises(UserError, match=match):
        rad_jax.load(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"")
    match = "a.pt: is a file; .*: rad-jax convert --input .*a.pt --output FOLDER$"
    with pytest.raises(UserError, match=match):
        rad_jax.load(tmp_path / "a.pt")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="run: holds no finished checkpoint; train it"):
        rad_jax.load(str(tmp_path / "run"))
    workdir = tmp_path / "damaged"
    shutil.copytree(tiny_run[0], workdir)
    for path in (workdir / "checkpoints").glob("*/ema/manifest.ocdbt"):
        path.unlink()
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        rad_jax.load(workdir)
