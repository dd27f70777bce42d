"""Gabor filters are those of the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.kernel_init import gabor_filters

pytestmark = pytest.mark.usefixtures("quick_compilation")


def gabor_by_hand(size, sigma, theta, wavelength, phase, aspect):
    grid = np.linspace(-size // 2, size // 2, size)
    slices = np.empty((size, size))
    for i, y in enumerate(grid):
        for j, x in enumerate(grid):
            along = x * np.cos(theta) + y * np.sin(theta)
            across = -x * np.sin(theta) + y * np.cos(theta)
            envelope = np.exp(-0.5 * (along**2 / sigma**2 + across**2 * aspect**2 / sigma**2))
            slices[i, j] = envelope * np.cos(2 * np.pi * along / wavelength + phase)
    return slices


@pytest.mark.parametrize("size", [3, 7])
def test_gabor_is_the_formula_with_parameters_in_range(size):
    key = jax.random.key(2)
    kernel = np.asarray(gabor_filters.gabor_kernel(key, (size, size, 3, 4)))
    ranges = [(1.5, 2.5), (0, np.pi), (2, 13), (0, 2 * np.pi), (0.9, 1.1)]
    drawn = [
        np.asarray(jax.random.uniform(own, (1, 1, 4), jnp.float32, low, high)).ravel()
        for own, (low, high) in zip(jax.random.split(key, 5), ranges, strict=True)
    ]
    for channel in range(4):
        expected = gabor_by_hand(size, *(float(values[channel]) for values in drawn))
        np.testing.assert_allclose(kernel[:, :, 0, channel], expected, atol=1e-5)


def test_gabor_is_the_same_for_all_inputs_and_differs_between_outputs():
    kernel = gabor_filters.gabor_kernel(jax.random.key(0), (7, 7, 3, 64))
    assert jnp.array_equal(kernel[:, :, 0], kernel[:, :, 2])
    flat = np.asarray(kernel[:, :, 0]).reshape(49, 64).T
    assert len(np.unique(flat.round(5), axis=0)) == 64


def test_gabor_fits_kernel_init_of_flax():
    from flax import linen

    layer = linen.Conv(8, (7, 7), kernel_init=gabor_filters.gabor_kernel)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 9, 9, 3)))
    kernel = jnp.asarray(variables["params"]["kernel"])
    assert kernel.shape == (7, 7, 3, 8)
    assert jnp.array_equal(kernel[:, :, 0], kernel[:, :, 1])
