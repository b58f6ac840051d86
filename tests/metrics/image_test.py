import itertools
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import metrics

from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.metrics import image
from tests.models.adm_files import quick_jit

HEIGHT, WIDTH = 20, 24


def pictures(channels):
    """Fillings, smooth originals that they are near, and masks: large, tiny, none."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    phases = rng.uniform(0, 6, (3, 1, 1, channels))
    originals = 0.8 * np.sin(0.3 * x[..., None] + 0.2 * y[..., None] + phases)
    filled = originals + rng.normal(0, 0.1, originals.shape)
    masks = np.zeros((3, HEIGHT, WIDTH))
    masks[0, 4:15, 3:20] = 1  # reaches closer to the border than half a window
    masks[1, 9, 9] = 0.25  # soft
    return (array.astype(np.float32) for array in (filled, originals, masks))


@quick_jit
def measure(*images):
    """All metrics by name: together they compile in a fraction of the time."""
    whole = {each.__name__: each(*images[:2]) for each in (image.psnr, image.ssim)}
    in_hole = (
        image.psnr_in_hole,
        image.ssim_in_hole,
        image.known_changed,
        image.seam,
        jax.vmap(image.rms_in_hole),
    )
    found = whole | {each.__name__: each(*images) for each in in_hole}
    sums = jax.tree.map(lambda x: jnp.append(x, x.sum()), found["seam"])
    ratio, excess = image.seam_ratio(sums), image.seam_excess(sums)
    return found | {"seam_ratio": ratio, "seam_excess": excess}


def reference_ssim(a, b):
    """Scikit-image's mean, and its map where the window lies in the image."""
    found: Any = metrics.structural_similarity(
        (np.asarray(a, np.float64) + 1) / 2,
        (np.asarray(b, np.float64) + 1) / 2,
        channel_axis=-1,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    mean, whole = found
    return mean, whole.mean(axis=-1)[5:-5, 5:-5]


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_are_those_of_scikit_image(channels):
    filled, originals, masks = pictures(channels)
    found = measure(filled, originals, masks)
    psnr, ssim = found["psnr"], found["ssim"]
    psnr_hole, ssim_hole = found["psnr_in_hole"], found["ssim_in_hole"]
    for i, (a, b) in enumerate(zip(filled, originals, strict=True)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        expected = metrics.peak_signal_noise_ratio(b, a, data_range=2)
        assert psnr[i] == pytest.approx(expected, rel=1e-5)
        mean, similarity = reference_ssim(a, b)
        assert ssim[i] == pytest.approx(mean, abs=1e-5)
        hole = np.asarray(masks[i]) > 0
        assert psnr_hole.count[i] == hole.sum()
        centres = hole[5:-5, 5:-5]
        assert ssim_hole.count[i] == centres.sum()
        if hole.any():
            inside = metrics.peak_signal_noise_ratio(b[hole], a[hole], data_range=2)
            assert psnr_hole.value[i] == pytest.approx(inside, rel=1e-5)
            expected = similarity[centres].mean()
            assert ssim_hole.value[i] == pytest.approx(expected, abs=1e-5)
    assert psnr_hole.count.tolist() == [11 * 17, 1, 0]
    assert ssim_hole.count.tolist() == [10 * 14, 1, 0]


def test_empty_holes_and_equal_images_have_numbers():
    filled, originals, masks = pictures(1)
    found = measure(filled, originals, masks)
    assert found["psnr_in_hole"].value[2] == image.MAX_PSNR
    assert found["ssim_in_hole"].value[2] == 1
    assert found["rms_in_hole"][2] == 0 < found["rms_in_hole"][1]
    equal = measure(filled, filled, masks)
    assert equal["psnr"].tolist() == [image.MAX_PSNR] * 3
    assert equal["psnr_in_hole"].value.tolist() == [image.MAX_PSNR] * 3
    np.testing.assert_allclose(equal["ssim"], 1, rtol=1e-6)
    # Nothing but pixels at the image's border, of which no window is the centre.
    masks[:], masks[:, :5] = 0, 1
    found = measure(filled, originals, masks)
    similarity = found["ssim_in_hole"]
    assert similarity.count.tolist() == [0, 0, 0]
    assert similarity.value.tolist() == [1, 1, 1]
    assert not any(np.isnan(x).any() for x in jax.tree.leaves((found, equal)))


def test_ssim_needs_room_for_its_window():
    small = jnp.zeros((1, 16, 10, 1))
    with pytest.raises(UserError, match=r"images of 11 x 11 .*; these have 10 x 16$"):
        image.ssim(small, small)


def test_dm_pix_is_an_extra(monkeypatch):
    filled, originals, _ = map(jnp.asarray, pictures(1))
    monkeypatch.setitem(sys.modules, "dm_pix", None)
    for measure in image.psnr, image.ssim:
        with pytest.raises(UserError, match=r"pip install 'rad-jax\[metrics\]'$"):
            measure(filled, originals)


def test_known_pixels_are_compared_as_saved():
    _, smooth, masks = pictures(3)
    originals = to_float(to_bytes(smooth))
    filled = originals.copy()
    filled[masks > 0] = 0
    filled[0] += np.float32(0.9 / 255)  # less than half a level
    filled[1, 5, 5, 1] += 0.1
    filled[1, 19, 23] -= 0.1
    found = measure(filled, originals, masks)
    assert found["known_changed"].tolist() == [0, 2, 0]


def seam_by_pixels(filled, original, mask):
    sums = [0.0, 0.0, 0]
    for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
        for v, u in ((y, x + 1), (y + 1, x)):
            if v < HEIGHT and u < WIDTH and (mask[y, x] > 0) != (mask[v, u] > 0):
                sums[0] += np.abs(filled[y, x] - filled[v, u]).mean()
                sums[1] += np.abs(original[y, x] - original[v, u]).mean()
                sums[2] += 1
    return sums


@pytest.mark.parametrize("channels", [1, 3])
def test_seams_are_jumps_across_the_border(channels):
    filled, originals, masks = pictures(channels)
    masks[2] = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.5
    measured = measure(filled, originals, masks)
    found = measured["seam"]
    expected = [
        seam_by_pixels(*each) for each in zip(filled, originals, masks, strict=True)
    ]
    assert found.pairs.tolist()[:2] == [2 * (11 + 17), 4]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-5)
    filled_sum, original_sum, pairs = np.transpose([*expected, np.sum(expected, 0)])
    ratio = filled_sum / original_sum
    np.testing.assert_allclose(measured["seam_ratio"], ratio, rtol=1e-5)
    excess = (filled_sum - original_sum) / pairs
    np.testing.assert_allclose(measured["seam_excess"], excess, rtol=1e-3, atol=1e-6)


def test_seams_of_perfect_flat_and_missing_fillings():
    _, originals, masks = pictures(3)
    flat = np.zeros_like(originals)
    for same in originals, flat:
        found = measure(same, same, masks)
        assert found["seam_excess"].tolist() == [0] * 4
        assert found["seam_ratio"].tolist() == [1] * 4
    step = flat.copy()
    step[0, 4:15, 3:20] = 0.5
    found = measure(step, flat, masks)
    assert found["seam_excess"][0] == 0.5
    assert found["seam_ratio"][:3].tolist() == [pytest.approx(0.5 * 255), 1, 1]


def test_diversity_is_the_mean_over_pairs():
    samples, _, masks = map(jnp.asarray, pictures(3))
    found = image.mean_pairwise(samples, lambda a, b: image.rms_in_hole(a, b, masks[0]))
    hole = np.asarray(masks[0]) > 0
    expected = [
        np.sqrt(np.square(np.asarray(a)[hole] - np.asarray(b)[hole]).mean())
        for a, b in itertools.combinations(samples, 2)
    ]
    assert found == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(UserError, match=r"2 samples of an input or more, not 1$"):
        image.mean_pairwise(samples[:1], lambda a, b: jnp.float32(0))


def test_networks_see_colour():
    grey = jnp.linspace(-1, 1, 8).reshape(2, 2, 2, 1)
    np.testing.assert_array_equal(image.to_rgb(grey), jnp.repeat(grey, 3, axis=-1))
    colour = jnp.zeros((2, 2, 2, 3))
    assert image.to_rgb(colour).shape == colour.shape
    with pytest.raises(UserError, match=r"1 or 3 channels, not 4$"):
        image.to_rgb(jnp.zeros((1, 2, 2, 4)))


def test_neither_the_package_nor_its_metrics_import_dm_pix():
    program = (
        "import sys, rad_jax, rad_jax.metrics.lpips, rad_jax.metrics.inception\n"
        "assert not {'dm_pix', 'torch', 'tensorflow', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
