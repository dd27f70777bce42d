"""The whitening of photographs by formula, against eigenvectors of the whole covariance."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg
from scipy.spatial import distance

from jaxinit import kernel_init

KEY = jax.random.key(5)
SIZES = [((3, 3), 3), ((7, 7), 3), ((5, 2), 4), ((6,), 2), ((2, 3, 2), 1)]


def covariance(size, channels, length=10.0, between=0.85):
    """Of patches as rows in the order of a kernel's taps."""
    places = np.stack(np.unravel_index(np.arange(np.prod(size)), size), -1)
    alike = np.exp(-distance.squareform(distance.pdist(places)) / length)
    return np.kron(alike, linalg.toeplitz(between ** np.arange(channels)))


def filters(size, channels, outputs, key=KEY, **options):
    init = kernel_init.natural_whitening(None, **options)
    return np.asarray(init(key, (*size, channels, outputs)), np.float64).reshape(-1, outputs)


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_what_they_make_of_such_patches_is_white(size, channels):
    taps = int(np.prod(size)) * channels
    own = filters(size, channels, 2 * taps, epsilon=1e-6)
    np.testing.assert_array_equal(own[:, 1::2], -own[:, ::2])
    made = own[:, ::2].T @ covariance(size, channels) @ own[:, ::2]
    # Distances along one axis are stretched by a ten-thousandth.
    np.testing.assert_allclose(made, np.eye(taps), atol=2e-3)


@pytest.mark.parametrize(("length", "between"), [(3.0, 0.5), (40.0, 0.95)])
def test_the_largest_eigenvalues_come_first(length, between):
    own = filters((4, 5), 3, 12, length=length, between_channels=between)[:, ::2]
    values: Any = linalg.eigvalsh(covariance((4, 5), 3, length, between))[::-1][:6]
    np.testing.assert_allclose(np.linalg.norm(own, axis=0), (values + 5e-4) ** -0.5, rtol=1e-3)


def test_further_sets_whiten_too_and_alone_depend_on_the_key():
    taps = 2 * 2 * 3
    one, other = (filters((2, 2), 3, 4 * taps, jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one[:, : 2 * taps], other[:, : 2 * taps])
    second = one[:, 2 * taps :: 2]
    made = second @ second.T
    first = one[:, : 2 * taps : 2]
    np.testing.assert_allclose(made, first @ first.T, rtol=1e-3, atol=1e-3)
    assert np.abs(second - other[:, 2 * taps :: 2]).max() > 0.1


def test_mirrored_filters_are_told_apart():
    """Where two eigenvectors are mirror images, none is a mixture of both."""
    kernel = np.asarray(kernel_init.natural_whitening()(KEY, (7, 7, 1, 6)))[:, :, 0, ::2]
    _, *edges = np.moveaxis(kernel, -1, 0)
    kinds = {tuple(np.allclose(edge, np.flip(edge, axis), atol=1e-3) for axis in (0, 1))
             for edge in edges}  # fmt: skip
    assert kinds == {(True, False), (False, True)}


@pytest.mark.parametrize("size", [(7, 7), (3, 3, 3)])
def test_they_do_not_hang_on_what_the_eigensolver_makes_of_equal_eigenvalues(size):
    """Mirrored along any axis, each filter is itself or its negative."""
    kernel = np.asarray(kernel_init.natural_whitening()(KEY, (*size, 1, 2 * math.prod(size))))
    for axis in range(len(size)):
        there = np.flip(kernel, axis)
        for one, other in zip(np.moveaxis(kernel, -1, 0), np.moveaxis(there, -1, 0), strict=True):
            sign = np.sign(np.sum(one * other))
            np.testing.assert_allclose(other, sign * one, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 3, 3, 0), (3, 3, 0, 8), (0, 3, 3, 8)])
def test_of_nothing_there_is_nothing(shape):
    assert kernel_init.natural_whitening()(KEY, shape).shape == shape


def test_inside_a_compiled_function_it_is_the_same():
    init = kernel_init.natural_whitening(12.0)
    compiled = jax.jit(lambda key: init(key, (3, 3, 3, 16), jnp.float32))
    np.testing.assert_allclose(compiled(KEY), init(KEY, (3, 3, 3, 16)), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 0.0}, "say 0.01 to 1e.06 pixels"),
        ({"length": float("inf")}, "say 0.01 to 1e.06 pixels"),
        ({"epsilon": 0.0}, "say 1e-12 or more"),
        ({"epsilon": 1e-80}, "say 1e-12 or more"),
        ({"between_channels": 1.0}, "from 0 to below 1"),
        ({"between_channels": -0.1}, "from 0 to below 1"),
        ({"relative_norm": -1.0}, "must be 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernel_init.natural_whitening(**options)(KEY, (3, 3, 3, 8))
