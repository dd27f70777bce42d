"""Colours are unit vectors of the kinds and in the numbers asked for."""

import jax
import numpy as np
import pytest

from jaxinit.kernel_init import colour_directions


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
@pytest.mark.parametrize(("grey", "opponent"), [(0.5, 0.25), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_shares_are_counts(inputs, grey, opponent):
    drawn = np.asarray(colour_directions.draw(jax.random.key(0), inputs, 40, grey, opponent))
    assert drawn.shape == (inputs, 40)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=0), 1, rtol=1e-6)
    if inputs == 1:
        assert (drawn == 1).all()
        return
    alike = np.ptp(drawn, axis=0) < 1e-6
    assert alike.sum() == round(40 * grey)
    np.testing.assert_allclose(drawn[:, alike], inputs**-0.5, rtol=1e-6)
    assert (np.abs(drawn.sum(axis=0)) < 1e-5).sum() == round(40 * opponent)


def test_counts_are_rounded_and_all_filters_have_a_colour():
    drawn = np.asarray(colour_directions.draw(jax.random.key(1), 3, 7, 1 / 3, 2 / 3))
    alike = np.ptp(drawn, axis=0) < 1e-6
    zero = np.abs(drawn.sum(axis=0)) < 1e-5
    assert (alike.sum(), zero.sum()) == (2, 5)


def test_the_order_is_random_and_directions_are_uniform():
    drawn = np.asarray(colour_directions.draw(jax.random.key(2), 3, 9000, 0.0, 0.0), np.float64)
    np.testing.assert_allclose(drawn @ drawn.T / 9000, np.eye(3) / 3, atol=0.02)
    np.testing.assert_allclose(drawn.mean(axis=1), 0, atol=0.03)
    mixed = np.asarray(colour_directions.draw(jax.random.key(3), 3, 100, 0.5, 0.0))
    alike = np.ptp(mixed, axis=0) < 1e-6
    assert 10 < alike[:50].sum() < 40
    opponent = np.asarray(colour_directions.draw(jax.random.key(4), 3, 9000, 0.0, 1.0), np.float64)
    plane = (np.eye(3) - 1 / 3) / 2  # the covariance of a uniform direction of zero sum
    np.testing.assert_allclose(opponent @ opponent.T / 9000, plane, atol=0.02)
