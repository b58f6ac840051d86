"""The reference's numbers of one step of RAD on the levels of another base."""

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion import gaussian


def check_step(levels, numbers, prefix, rows=None):
    """Noises images to ``levels.t``, and steps to ``levels.s``, as the numbers say.

    Args:
      levels: of all times, as `gaussian.pixel_levels` gives them of one.
      numbers: the file; of it ``x0``, ``noise``, ``eps_hat``, ``z``, and by the prefix
        ``x_t``, ``x0_hat`` and ``x_s``.
      prefix: before those names.
      rows: indices of the times whose step is compared; None for all.
    """
    rows = np.arange(len(levels.t)) if rows is None else np.asarray(rows)
    x0, noise, predicted, z = (
        jnp.asarray(numbers[name], jnp.float32)
        for name in ("x0", "noise", "eps_hat", "z")
    )

    @jax.vmap
    def reverse(levels):
        x_t = gaussian.forward_marginal(x0, levels.t, noise)
        x0_hat = gaussian.predict_x0(x_t, predicted, levels.t, "eps")
        low, _ = gaussian.log_variance_range(levels, 0.0)
        return x_t, gaussian.ancestral_step(x_t, x0_hat, levels, low, z)

    x_t, x_s = map(np.asarray, reverse(levels))
    np.testing.assert_allclose(x_t, numbers[f"{prefix}_x_t"], atol=2e-5)
    theirs = numbers[f"{prefix}_x_s"][rows]
    size = np.maximum(1, np.abs(numbers[f"{prefix}_x0_hat"][rows]))
    np.testing.assert_allclose(x_s[rows] / size, theirs / size, atol=2e-5)
