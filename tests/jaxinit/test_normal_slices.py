"""Normal slices have the first two moments of those that they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import kernels, normal_slices


@pytest.mark.parametrize("count", [3, 40])  # fewer than taps, and more
def test_moments_are_numpys(count):
    rng = np.random.default_rng(0)
    slices, weights = rng.standard_normal((count, 9)) + 2, rng.integers(1, 5, count)
    share = weights / weights.sum()
    mean, root = normal_slices.moments(jnp.float32(slices), jnp.float32(share))
    np.testing.assert_allclose(mean, np.average(slices, axis=0, weights=weights), rtol=1e-5)
    covariance = np.cov(slices.T, fweights=weights, bias=True)
    np.testing.assert_allclose(root.T @ root, covariance, atol=1e-5)


def test_draws_have_them_too():
    rng = np.random.default_rng(1)
    slices = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)) + 3
    share = np.full(50, 1 / 50)
    kernel = normal_slices.draw(
        jax.random.key(0), jnp.float32(slices), jnp.float32(share), (2, 2, 100, 200), jnp.float32
    )
    drawn = np.asarray(kernels.to_slices(kernel))
    covariance = np.cov(slices.T, bias=True)
    error = 5 / np.sqrt(len(drawn)) * covariance.max()
    np.testing.assert_allclose(drawn.mean(axis=0), slices.mean(axis=0), atol=error)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=2 * error)
