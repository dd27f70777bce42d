"""Variance entropy, sparsity and norm of slices, against SciPy and NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from jaxinit import inspection
from jaxinit.inspection import slice_statistics


def reference_entropy(slices, shares=None):
    slices = np.asarray(slices, np.float64)
    shares = np.ones(len(slices)) if shares is None else np.asarray(shares, np.float64)
    centred = slices - np.average(slices, axis=0, weights=shares)
    values = scipy.linalg.svdvals(np.sqrt(shares)[:, None] * centred)
    return scipy.stats.entropy(np.square(values)) / np.log(10)


def drawn(count, taps, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, taps)) @ rng.normal(size=(taps, taps))
    return (mixed + 0.3).astype(np.float32)


@pytest.mark.parametrize(("count", "taps"), [(500, 9), (5, 9), (64, 49), (40, 2)])
def test_variance_entropy_is_that_of_the_squared_singular_values(count, taps):
    slices = drawn(count, taps)
    found = float(inspection.variance_entropy(jnp.asarray(slices)))
    assert found == pytest.approx(reference_entropy(slices), abs=2e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_variance_entropy_does_not_depend_on_the_scale(scale):
    slices = drawn(50, 9)
    found = inspection.variance_entropy(jnp.asarray(slices * np.float32(scale)))
    assert float(found) == pytest.approx(reference_entropy(slices), abs=2e-6)


def test_slices_count_by_their_shares():
    slices = drawn(6, 9)
    shares = np.array([1, 2, 3, 1, 0, 2], np.float32)
    repeated = jnp.asarray(np.repeat(slices, shares.astype(int), axis=0))
    wild = slices.copy()
    wild[4] *= 1000  # never drawn
    for given in (slices, wild):
        found = slice_statistics.statistics(jnp.asarray(given), jnp.asarray(shares))
        for one, other in zip(found, slice_statistics.statistics(repeated), strict=True):
            assert float(one) == pytest.approx(float(other), abs=1e-6)
    assert float(found.variance_entropy) == pytest.approx(
        reference_entropy(slices, shares), abs=2e-6
    )


def test_norm_is_the_root_mean_square():
    slices = drawn(30, 9)
    expected = np.sqrt(np.mean(np.sum(slices.astype(np.float64) ** 2, axis=1)))
    found = slice_statistics.statistics(jnp.asarray(slices))
    assert float(found.norm) == pytest.approx(expected, rel=1e-6)


def test_slices_are_sparse_where_all_taps_are_below_a_hundredth_of_the_largest():
    slices = np.full((8, 9), 0.5, np.float32)
    slices[0, 3] = -2.0
    slices[1:4] = 0.0199  # below 0.02
    slices[4] = [0.0199] * 8 + [-0.0201]
    assert float(inspection.sparsity(jnp.asarray(slices))) == 3 / 8


def test_half_precision_is_measured_in_single():
    slices = (drawn(64, 9) * 300).astype(np.float16)  # squares that float16 does not have
    found = slice_statistics.statistics(jnp.asarray(slices))
    wide = slices.astype(np.float64)
    assert found.norm.dtype == jnp.float32
    assert float(found.norm) == pytest.approx(np.sqrt(np.mean(np.sum(wide**2, axis=1))))
    assert float(found.variance_entropy) == pytest.approx(reference_entropy(slices), abs=2e-6)


def test_layers_without_variance_have_no_entropy():
    for slices in (np.zeros((4, 9)), np.full((7, 9), 0.1), drawn(1, 9), drawn(20, 1)):
        found = inspection.variance_entropy(jnp.asarray(slices, jnp.float32))
        assert float(found) == 0
    zeros = slice_statistics.statistics(jnp.zeros((4, 9)))
    assert [float(own) for own in zeros] == [0, 0, 1]


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(odd):
    slices = drawn(10, 9)
    slices[3, 3] = odd
    assert all(np.isnan(own) for own in slice_statistics.statistics(jnp.asarray(slices)))


def test_can_be_jitted_and_vmapped():
    slices = jnp.asarray(np.stack([drawn(20, 9), drawn(20, 9, seed=1)]))
    found = jax.jit(jax.vmap(inspection.variance_entropy))(slices)
    expected = [reference_entropy(own) for own in slices]
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("count", [16, 256])
def test_random_slices_reach_the_entropy_of_random_ones(count):
    rng = np.random.default_rng(0)
    entropies = [reference_entropy(rng.normal(size=(count, 9))) for _ in range(100)]
    threshold = inspection.random_entropy(count, 9)
    assert threshold is not None
    assert 0.9 * min(entropies) < threshold < np.median(entropies)


def test_the_entropy_of_random_slices_is_known_where_it_was_fitted():
    # 1.2618047 / (1 + exp(−0.88767525·(log₂ 4096 − 2.30436435))) − 0.31050834, by hand
    assert inspection.random_entropy(4096, 9) == pytest.approx(0.95106, abs=1e-5)
    assert inspection.random_entropy(np.inf, 9) == pytest.approx(0.95129636)
    assert inspection.random_entropy(4096, 25) is None
    assert inspection.random_entropy(2, 9) is None
