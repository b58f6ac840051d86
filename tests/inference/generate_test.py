"""``generate`` against guided-diffusion's spaced chain, in NumPy and float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.checkpoints.model import Model
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.respacing import space_timesteps
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.inference import generate as generation
from rad_jax.inference.generate import adm_sampler, compiled_generate, enlarge, generate
from rad_jax.models.apply import make_apply
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels
from tests.models.adm_files import quick_jit, random_params

pytestmark = pytest.mark.usefixtures("quickly")

SIZE = 16
PLAIN = UNetConfig(
    image_size=SIZE,
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
)
FIXED = dataclasses.replace(PLAIN, learn_sigma=False)
UPSAMPLER = dataclasses.replace(PLAIN, in_channels=6, num_classes=5)
CLASSES = dataclasses.replace(PLAIN, num_classes=5)
LINEAR, COSINE = ScheduleConfig(), ScheduleConfig(kind="cosine")
KEYS = jax.random.split(jax.random.key(3), 2)
LABELS = jnp.array([4, 1])
LOW_RES = jnp.asarray(
    np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
)


def model_of(config, schedule=LINEAR):
    return Model(config, schedule, "eps", random_params(abstract_params(config)))


def betas_of(kind):
    if kind == "linear":
        return np.linspace(1e-4, 0.02, 1000)

    def alpha_bar(u):
        return np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2

    i = np.arange(1000)
    return np.minimum(1 - alpha_bar((i + 1) / 1000) / alpha_bar(i / 1000), 0.999)


def doubled(images):
    """Twice the size, bilinear: a quarter of a pixel to either side, edges repeated."""

    def along(x):
        padded = np.concatenate([x[:1], x, x[-1:]])
        left, right = (0.25 * padded[i : len(x) + i] for i in (0, 2))
        return np.stack([left + 0.75 * x, 0.75 * x + right], 1).reshape(
            -1, *x.shape[1:]
        )

    rows = [along(image.astype(np.float64)) for image in images]
    return np.stack([np.swapaxes(along(np.swapaxes(x, 0, 1)), 0, 1) for x in rows])


def reference(call, noise_at, kind, taus, *, ddim_eta=None, learned=True):
    """guided-diffusion's chain over the timesteps ``taus``, rising.

    ``call(x, tau)`` is the network and ``noise_at(time)`` the noise that is added when
    the chain comes from ``time`` steps of noise.
    """
    alpha_bar = np.cumprod(1 - betas_of(kind))[taus]
    before = np.append(1.0, alpha_bar[:-1])
    betas = 1 - alpha_bar / before
    variance = betas * (1 - before) / (1 - alpha_bar)
    log_clipped = np.log(np.append(variance[1], variance[1:]))
    large = np.append(variance[1], betas[1:])
    of_x0 = betas * np.sqrt(before) / (1 - alpha_bar)
    of_x_t = (1 - before) * np.sqrt(1 - betas) / (1 - alpha_bar)
    x = noise_at(0)
    for k in reversed(range(len(taus))):
        output = call(x, taus[k])
        eps, v = output[..., :3], output[..., 3:]
        x0 = np.sqrt(1 / alpha_bar[k]) * x - np.sqrt(1 / alpha_bar[k] - 1) * eps
        x0 = np.clip(x0, -1, 1)
        noise = noise_at(taus[k] + 1) if k else 0.0
        if ddim_eta is not None:
            eps = np.sqrt(1 / alpha_bar[k]) * x - x0
            eps = eps / np.sqrt(1 / alpha_bar[k] - 1)
            sigma = np.sqrt((1 - before[k]) / (1 - alpha_bar[k]))
            sigma = ddim_eta * sigma * np.sqrt(1 - alpha_bar[k] / before[k])
            x = np.sqrt(before[k]) * x0 + np.sqrt(1 - before[k] - sigma**2) * eps
            x = x + sigma * noise
            continue
        log_variance = np.log(large[k])
        if learned:
            f = (v + 1) / 2
            log_variance = f * np.log(betas[k]) + (1 - f) * log_clipped[k]
        mean = of_x0[k] * x0 + of_x_t[k] * x
        x = mean + np.exp(0.5 * log_variance) * noise
    return x


def nearly_a_denoiser(config, kind):
    """A network that is not trained, but whose clean images mostly need no clipping.

    Its output is but a change to the best linear guess for pixels of variance 1/4.
    """
    apply = make_apply(config)
    table = np.cumprod(1 - betas_of(kind)).astype(np.float32)

    def changed(params, x, noise, labels=None):
        output = apply(params, x, noise, labels)
        level = jnp.asarray(table)[noise.timesteps[:, :, None, None].astype(int)]
        guess = jnp.sqrt(1 - level) / (1 - 0.75 * level) * x[..., :3]
        change = 0.5 * jnp.sqrt(level) * output[..., :3]
        return jnp.concatenate([guess + change, output[..., 3:]], -1)

    return changed


@pytest.fixture
def denoiser(monkeypatch):
    """``denoiser(config, kind)`` is what `generate` then takes for the network."""
    compiled_generate.cache_clear()

    def replace(config, kind):
        network = nearly_a_denoiser(config, kind)

        def predict(params, x, level, told, labels):
            del level  # of a process that ADM has
            return network(params, x, told, labels)

        monkeypatch.setattr(generation, "make_denoise", lambda *_: predict)
        return quick_jit(network)

    yield replace
    compiled_generate.cache_clear()


@pytest.mark.parametrize(
    "config, schedule, respacing, method, eta",
    [
        (FIXED, COSINE, "5,3,2", "ddpm", 0.0),
        (PLAIN, LINEAR, "ddim10", "ddim", 0.0),
        pytest.param(*(PLAIN, COSINE, "12", "ddim", 1.0), marks=pytest.mark.slow),
        pytest.param(*(UPSAMPLER, LINEAR, "12", "ddpm", 0.0), marks=pytest.mark.slow),
    ],
)
def test_chain_is_that_of_guided_diffusion(
    denoiser, config, schedule, respacing, method, eta
):
    """To 2e-5: x0 = x / sqrt(abar) - .. enlarges the rounding of float32, 6e-8, some
    160 times (linear betas; with cosine ones more, but the clip catches most of it).
    """
    model, call_network = model_of(config, schedule), denoiser(config, schedule.kind)
    upsamples = config is UPSAMPLER
    extra = {"labels": LABELS, "low_res": LOW_RES} if upsamples else {}
    beside = [doubled(np.asarray(LOW_RES))] if upsamples else []

    def call(x, tau):
        inputs = jnp.asarray(np.concatenate([x, *beside], -1), jnp.float32)
        told = NoiseLevels(jnp.full((2, 1), float(tau)))
        output = call_network(model.params, inputs, told, extra.get("labels"))
        return np.asarray(output, np.float64)

    def noise_at(time):
        keys = [jax.random.fold_in(key, time) for key in KEYS]
        draws = [jax.random.normal(key, (SIZE, SIZE, 3)) for key in keys]
        return np.stack(draws).astype(np.float64)

    expected = reference(
        call,
        noise_at,
        schedule.kind,
        space_timesteps(1000, respacing),
        ddim_eta=eta if method == "ddim" else None,
        learned=config.learn_sigma,
    )
    assert 0 < np.mean(np.abs(expected) == 1) < 0.5, "a test of clipping as well"
    sampler = adm_sampler(model, method, eta)
    found = generate(model, KEYS, respacing=respacing, sampler=sampler, **extra)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def draw(rows, labels, respacing="4"):
    keys = jax.random.split(jax.random.key(0), 3)[np.array(rows)]
    model = model_of(CLASSES)
    return np.asarray(
        generate(model, keys, labels=jnp.asarray(labels), respacing=respacing)
    )


def test_an_image_depends_on_its_key_and_label_alone():
    given = draw([0, 1, 2], [4, 4, 0])
    assert all((given[i] != given[j]).mean() > 0.5 for i, j in ((0, 1), (1, 2)))
    mixed = draw([2, 1, 0], [0, 3, 4])
    np.testing.assert_array_equal(mixed[[2, 0]], given[[0, 2]])
    assert (mixed[1] != given[1]).mean() > 0.5


def test_one_program_serves_all_respacings():
    draw([0, 1, 2], [4, 4, 0])
    model = model_of(CLASSES)
    program = compiled_generate(CLASSES, model.schedule, adm_sampler(model), None)
    before = program._cache_size()
    for respacing in ("1", "ddim2", "2,3"):
        draw([0, 1, 2], [4, 4, 0], respacing)
    assert program._cache_size() == before == 1


def test_low_resolution_images_are_enlarged_as_pytorch_does():
    """align_corners False; what has the size already stays as it is."""
    found = enlarge(LOW_RES, SIZE)
    np.testing.assert_allclose(found, doubled(np.asarray(LOW_RES)), atol=1e-6)
    np.testing.assert_array_equal(enlarge(found, SIZE), found)


def test_the_sampler_fits_the_model():
    assert adm_sampler(model_of(PLAIN)) == SamplerConfig("ddpm", 0.0, "learned", "eps")
    fixed = model_of(FIXED)._replace(parametrisation="v")
    assert adm_sampler(fixed, "ddim", 0.5) == SamplerConfig("ddim", 0.5, "large", "v")


@pytest.mark.parametrize(
    "config, options, message",
    [
        (PLAIN, {"labels": LABELS}, "the model has no classes; give no label"),
        (PLAIN, {"low_res": LOW_RES}, "does not enlarge images; leave low_res out"),
        (PLAIN, {"respacing": "1001"}, "1001 timesteps do not fit into"),
        (FIXED, {"sampler": SamplerConfig()}, "no learned variance; use variance 'lar"),
        (UPSAMPLER, {"low_res": LOW_RES}, r"has 5 classes; give a label, 0 \.\. 4"),
        (UPSAMPLER, {"labels": LABELS}, "enlarges images; give it some as low_res"),
        (UPSAMPLER, {"labels": LABELS + 1}, r"no class 5; the model's are 0 \.\. 4"),
        (UPSAMPLER, {"labels": LABELS - 2}, "there is no class -1"),
        (
            UPSAMPLER,
            {"labels": LABELS, "low_res": LOW_RES[:, 1:]},
            "low_res has 8x7 pixels; the model enlarges squares to 16x16",
        ),
        (
            UPSAMPLER,
            {"labels": LABELS, "low_res": jnp.zeros((2, 17, 17, 3))},
            "low_res has 17x17 pixels",
        ),
        (
            UPSAMPLER,
            {"labels": LABELS, "low_res": LOW_RES[..., :1]},
            "low_res has 1 channels; the model takes 3",
        ),
        (
            UPSAMPLER,
            {"labels": LABELS[:1], "low_res": LOW_RES[:1]},
            "labels has 1 entries for 2 keys",
        ),
        (
            dataclasses.replace(PLAIN, in_channels=4),
            {},
            "takes 4 channels and gives 3; it can neither sample nor enlarge",
        ),
    ],
)
def test_what_does_not_fit_is_explained(config, options, message):
    model = Model(config, LINEAR, "eps", {})
    with pytest.raises(UserError, match=message):
        generate(model, KEYS, **options)
