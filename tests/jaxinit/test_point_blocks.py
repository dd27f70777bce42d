"""Blocks of points, and sums and scales that lose nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import point_blocks


@pytest.mark.parametrize("largest", [1e-37, 3e-22, 1.0, 1.5, 7e18, 3e38])
def test_scale_is_a_power_of_two_and_rounds_nothing(largest):
    values = np.array([[0.3, -1.0], [0.7, 1 / 3]], np.float32) * np.float32(largest)
    scale = jax.jit(point_blocks.scale)(values)
    scaled = np.asarray(values * scale)
    assert np.log2(float(scale)) % 1 == 0
    assert 0.25 <= np.abs(scaled).max() <= 4
    np.testing.assert_array_equal(scaled.astype(float) / float(scale), values.astype(float))


def test_nothing_to_scale():
    assert point_blocks.scale(jnp.zeros((2, 2)), jnp.zeros(3)) == 1


@pytest.mark.parametrize("count", [1, 2, 1000, 4097])
def test_total_loses_a_few_roundings(count):
    values = np.random.default_rng(0).uniform(size=(count, 2)).astype(np.float32)
    exact = values.astype(float).sum(0)
    np.testing.assert_allclose(jax.jit(point_blocks.total)(values), exact, rtol=3e-7)


def test_a_million_tenths():
    tenths = np.full(1_000_000, 0.1, np.float32)
    np.testing.assert_allclose(jax.jit(point_blocks.total)(tenths), 100_000, rtol=1e-7)


def test_every_point_is_dealt_once(monkeypatch):
    monkeypatch.setattr(point_blocks, "BLOCK", 4)
    points = np.arange(28, dtype=np.float32).reshape(14, 2)
    weights = np.array([1, 0, 2, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0], np.float32)
    points[3] = 3e38  # which weighs nothing: brought nearer
    blocks = jax.jit(point_blocks.deal)(points, weights, 0.5)
    rows, dealt_weights = (np.asarray(each).ravel() for each in (blocks.rows, blocks.weights))
    np.testing.assert_array_equal(np.sort(rows), [*range(14), 14, 14])
    inside = rows < 14
    np.testing.assert_array_equal(dealt_weights[inside], weights[rows[inside]])
    dealt = np.asarray(blocks.points).transpose(0, 2, 1).reshape(-1, 2)[inside]
    np.testing.assert_array_equal(dealt, np.minimum(points[rows[inside]] / 2, 2.0**50))
    assert blocks.used == 2
    assert not dealt_weights[8:].any()
    assert not dealt_weights[~inside].any()
