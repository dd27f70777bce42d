"""Drawn slices have the covariances of the formulas, as NumPy has them in float64."""

import itertools

import jax
import numpy as np
import pytest

from jaxinit import kernels
from jaxinit.kernel_init import correlated


def empirical(init, size, outputs=80000):
    """The covariance of many slices, in units of its mean variance."""
    draw = jax.jit(lambda key: kernels.to_slices(init(key, (*size, 1, outputs))))
    slices = draw(jax.random.key(0))
    rows = np.asarray(slices, np.float64)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.05 * rows.std())
    second = rows.T @ rows / len(rows)
    return second / np.trace(second) * len(second)


def in_units_of_its_mean_variance(matrix):
    return matrix / np.trace(matrix) * len(matrix)


def squared_exponential(size, length):
    """Tap by tap, from the definition."""
    taps = list(itertools.product(*map(range, size)))
    return np.array(
        [
            [np.exp(-sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / (2 * length**2))
             for q in taps]
            for p in taps
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("size", "length"), [((3, 3), 1.0), ((4, 2), 0.6), ((5,), 2.0),
                                              ((2, 3, 2), 1.5), ((1, 1), 1.0)])  # fmt: skip
def test_smooth_slices_have_the_covariance(size, length):
    drawn = empirical(correlated.smooth(length=length), size)
    np.testing.assert_allclose(drawn, squared_exponential(size, length), atol=0.02)


def test_smooth_slices_are_independent_of_each_other():
    rows = kernels.to_slices(correlated.smooth()(jax.random.key(1), (3, 3, 2, 4000)))
    rows = np.asarray(rows, np.float64).reshape(4000, 2, 9)
    between = np.einsum("nd,ne->de", rows[:, 0], rows[:, 1]) / 4000 / rows.var()
    np.testing.assert_allclose(between, 0, atol=0.08)


def test_without_length_smooth_is_white_and_at_great_length_flat():
    white = empirical(correlated.smooth(length=0.05), (3, 3))
    np.testing.assert_allclose(white, np.eye(9), atol=0.02)
    flat = empirical(correlated.smooth(length=1e4), (3, 3))
    np.testing.assert_allclose(flat, 1, atol=1e-3)


def closed_form_by_hand(size, sigma):
    """Tap by tap, from the definition."""
    taps = list(itertools.product(*map(range, size)))
    centre = [(n - 1) / 2 for n in size]

    def z(p, q):
        return np.exp(-sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / (2 * sigma))

    return np.array(
        [
            [np.sqrt(z(p, centre) * z(q, centre)) * z(p, q) - z(p, centre) * z(q, centre) / 2
             for q in taps]
            for p in taps
        ]
    )  # fmt: skip


@pytest.mark.parametrize("size", [(7, 7), (4, 6), (3,), (3, 2, 3)])
@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
def test_closed_form_is_the_formula_symmetric_and_positive_semi_definite(size, sigma):
    matrix = correlated.covariance(size, sigma)
    np.testing.assert_allclose(matrix, closed_form_by_hand(size, sigma), atol=1e-14)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_closed_form_in_numbers():
    """One axis of three taps, σ = ½: z is 1 at the centre and 1/e beside it, 1/e⁴ two apart."""
    e = np.e
    edge, beside, across = 1 / e - e**-2 / 2, e**-1.5 - 1 / (2 * e), e**-5 - e**-2 / 2
    np.testing.assert_allclose(
        correlated.covariance((3,), 0.5),
        [[edge, beside, across], [beside, 0.5, beside], [across, beside, edge]],
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    ("size", "depth", "schedule", "sigma"),
    [
        ((7, 7), 0.0, (1.0, 3.0, 0.0), 1.0),
        ((7, 7), 0.5, (0.5, 2.0, 4.0), 2.0),
        ((3, 3), 1.0, (1.0, 3.0, 2.0), 5.0 * 9 / 49),
        ((4, 2), 1.0, (5.0, -2.0, 0.0), 3.0 * 8 / 49),
        ((5,), 0.25, (2.0, 4.0, 0.0), 3.0 * 25 / 49),
    ],
)
def test_drawn_slices_have_the_covariance_of_their_depth(size, depth, schedule, sigma):
    start, slope, curvature = schedule
    init = correlated.closed_form_covariance(depth, start=start, slope=slope, curvature=curvature)
    expected = in_units_of_its_mean_variance(closed_form_by_hand(size, sigma))
    drawn = empirical(init, size)
    np.testing.assert_allclose(drawn, expected, atol=0.03 * expected.max())


def test_deeper_filters_are_wider():
    def spread(depth):
        rows = kernels.to_slices(
            correlated.closed_form_covariance(depth)(jax.random.key(0), (7, 7, 1, 500))
        )
        energy = np.mean(np.asarray(rows) ** 2, axis=0)
        at = np.arange(7) - 3
        return np.sum(energy * (at[:, None] ** 2 + at[None] ** 2).ravel()) / energy.sum()

    spreads = [spread(depth) for depth in (0.0, 0.3, 0.6, 1.0)]
    assert spreads == sorted(spreads)


def test_bad_input_gets_a_sentence():
    for length in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be a distance in pixels above 0"):
            correlated.smooth(length=length)
    for depth in (-0.1, 1.1):
        with pytest.raises(ValueError, match="is out of range"):
            correlated.closed_form_covariance(depth)
    with pytest.raises(ValueError, match=r"give σ=-1\.0 at depth 1.0: it must be above 0"):
        correlated.closed_form_covariance(1.0, start=1.0, slope=-2.0)
