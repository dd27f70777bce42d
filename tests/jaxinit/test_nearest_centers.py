"""Nearest centres, beside NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import nearest_centers


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


# One loop over the points; several, the last with a centre of filling; and loops over coordinates.
@pytest.mark.parametrize(("k", "d"), [(10, 9), (29, 9), (3, 49), (10, 70), (17, 100)])
def test_labels_and_distances_are_those_of_float64(k, d):
    points, centers = normal(200, d), normal(k, d, seed=1)
    points[:k] = centers  # at distance 0
    labels, squares = jax.jit(nearest_centers.nearest)(points.T, centers)
    exact = np.square(points[:, None].astype(float) - centers[None].astype(float)).sum(2)
    np.testing.assert_array_equal(labels, exact.argmin(1))
    np.testing.assert_allclose(squares, exact.min(1), rtol=1e-5)


def test_the_first_of_equals_and_none_at_infinity():
    centers = jnp.array([[jnp.inf], [1.0], [3.0], [1.0]])
    labels, squares = nearest_centers.nearest(jnp.array([[0.0, 2.0, 4.0]]), centers)
    np.testing.assert_array_equal(labels, [1, 1, 2])
    np.testing.assert_array_equal(squares, [1, 1, 1])
