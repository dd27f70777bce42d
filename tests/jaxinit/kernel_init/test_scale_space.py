"""Differences and derivatives of Gaussians have the properties that define them."""

import jax
import numpy as np
import pytest

from jaxinit.kernel_init import scale_space

SIZES = [(3, 3), (7, 7), (4, 6), (1, 5), (5,), (4,), (3, 4, 3)]


def places(size):
    """Each tap's coordinates from the centre, one row a tap."""
    grids = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1)


def filters(init, size, inputs=1, outputs=6, seed=0):
    """One row of taps a filter, of the first input channel, in float64 throughout."""
    with jax.enable_x64(True):
        draw = jax.jit(lambda key: init(key, (*size, inputs, outputs), np.float64))
        kernel = np.asarray(draw(jax.random.key(seed)))
    return kernel[..., 0, :].reshape(-1, outputs).T


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def gaussian(size, sigma):
    values = np.exp(-np.sum(places(size) ** 2, axis=1) / (2 * sigma**2))
    return values / values.sum()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "init", [scale_space.difference_of_gaussians(), scale_space.gaussian_derivatives()]
)
def test_every_filter_sums_to_zero_and_has_one_norm(init, size):
    rows = filters(init, size, inputs=3)
    np.testing.assert_allclose(rows.sum(axis=1), 0, atol=1e-13)
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_difference_of_gaussians_is_the_formula_at_one_width(size):
    """Of a range of one width nothing but the sign is random."""
    long = [n for n in size if n > 1]
    sigma = 1.1 * np.prod(long) ** (1 / len(long)) / 7
    expected = unit(gaussian(size, sigma) - gaussian(size, 1.6 * sigma))
    rows = unit(filters(scale_space.difference_of_gaussians(sigma=(1.1, 1.1)), size, outputs=16))
    signs = np.sign(rows @ expected)
    np.testing.assert_allclose(rows, signs[:, None] * expected[None], atol=1e-12)
    assert set(signs) == {-1, 1}


@pytest.mark.parametrize("size", [(7, 7), (4, 4), (3, 3, 3)])
def test_difference_of_gaussians_depends_on_the_distance_alone(size):
    rows = filters(scale_space.difference_of_gaussians(), size)
    distance = np.sum(places(size) ** 2, axis=1)
    for own in np.unique(distance):
        np.testing.assert_allclose(np.ptp(rows[:, distance == own], axis=1), 0, atol=1e-13)
    assert len(np.unique(np.abs(rows[:, 0]).round(6))) == 6  # of different widths


def test_difference_of_gaussians_has_a_centre_and_an_opposite_surround():
    rows = filters(scale_space.difference_of_gaussians(), (7, 7), outputs=16)
    middle = rows[:, 24]
    ring = rows[:, np.isin(np.sum(places((7, 7)) ** 2, axis=1), (8, 9, 10))]
    assert (np.sign(ring) == -np.sign(middle)[:, None]).all()


@pytest.mark.parametrize("size", [(7, 7), (4, 6), (5,), (3, 4, 3)])
def test_derivatives_are_odd_or_even(size):
    first = filters(scale_space.gaussian_derivatives(orders=(1,)), size)
    np.testing.assert_allclose(first[:, ::-1], -first, atol=1e-13)
    second = filters(scale_space.gaussian_derivatives(orders=(2,)), size)
    np.testing.assert_allclose(second[:, ::-1], second, atol=1e-13)


def derivative_basis(size, sigma):
    """First derivatives along each axis, and second ones along each pair, each of zero sum."""
    at, g = places(size), gaussian(size, sigma)
    first = [-at[:, a] / sigma**2 * g for a in range(len(size))]
    second = {}
    for a in range(len(size)):
        for b in range(a, len(size)):
            own = (at[:, a] * at[:, b] / sigma**4 - (a == b) / sigma**2) * g
            second[a, b] = own - own.sum() * g
    return np.stack(first), second


@pytest.mark.parametrize("size", [(7, 7), (4, 4), (3, 3, 3)])
def test_first_derivatives_are_steered(size):
    """G1(θ) = cos θ·Gx + sin θ·Gy: on a square grid, where Gx and Gy have one norm."""
    basis, _ = derivative_basis(size, 1.5 * size[0] / 7)
    init = scale_space.gaussian_derivatives(orders=(1,), sigma=(1.5, 1.5))
    rows = unit(filters(init, size, outputs=12))
    weights = rows @ unit(basis).T
    np.testing.assert_allclose(weights @ unit(basis), rows, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, rtol=1e-12)
    assert np.linalg.matrix_rank(weights) == len(size)  # in more than one direction


@pytest.mark.parametrize("size", [(7, 7), (5, 8), (4, 3, 5)])
def test_second_derivatives_are_steered(size):
    """Along u: Σ u_a·u_b·G_ab, whose weights are a matrix of rank one."""
    sigma = 1.5 * np.prod(size) ** (1 / len(size)) / 7
    _, second = derivative_basis(size, sigma)
    init = scale_space.gaussian_derivatives(orders=(2,), sigma=(1.5, 1.5))
    rows = filters(init, size)
    basis = np.stack(list(second.values()))
    weights, *_ = np.linalg.lstsq(basis.T, rows.T, rcond=None)
    np.testing.assert_allclose(basis.T @ weights, rows.T, atol=1e-11)
    for own in weights.T:
        matrix = np.zeros((len(size), len(size)))
        for (a, b), value in zip(second, own, strict=True):
            matrix[a, b] = matrix[b, a] = value / (1 if a == b else 2)
        values = np.sort(np.abs(np.linalg.eigvalsh(matrix)))
        assert values[-2] < 1e-8 * values[-1]


def test_directions_are_uniform():
    init = scale_space.gaussian_derivatives(orders=(1,), sigma=(1.5, 1.5))
    rows = unit(filters(init, (5, 5), outputs=4000))
    basis, _ = derivative_basis((5, 5), 1.5 * 5 / 7)
    doubled = 2 * np.arctan2(*(rows @ unit(basis).T).T)
    assert np.hypot(np.cos(doubled).mean(), np.sin(doubled).mean()) < 0.05


def test_higher_derivatives_are_hermites():
    from scipy import special

    init = scale_space.gaussian_derivatives(orders=(3,), sigma=(1.2, 1.2))
    rows = unit(filters(init, (7,)))
    at = places((7,))[:, 0] / 1.2
    expected = unit(special.eval_hermitenorm(3, at) * gaussian((7,), 1.2))
    np.testing.assert_allclose(np.abs(rows @ expected), 1, rtol=1e-12)


def test_orders_are_as_frequent_as_their_number_allows():
    rows = filters(scale_space.gaussian_derivatives(orders=(1, 2)), (5, 5), outputs=9)
    odd = np.abs(rows + rows[:, ::-1]).max(axis=1) < 1e-12
    assert odd.sum() in (4, 5)


def test_filters_are_grey_unless_colours_are_asked_for():
    for make in (scale_space.difference_of_gaussians, scale_space.gaussian_derivatives):
        grey = np.asarray(make()(jax.random.key(0), (3, 3, 3, 8)))
        np.testing.assert_array_equal(grey, grey[:, :, :1].repeat(3, axis=2))
        opponent = np.asarray(make(grey=0.0, opponent=1.0)(jax.random.key(0), (3, 3, 3, 8)))
        np.testing.assert_allclose(opponent.sum(axis=2), 0, atol=1e-6)
        assert np.ptp(opponent, axis=2).max() > 0.1


@pytest.mark.parametrize("sigma", [(0.3, 0.3), (20.0, 20.0)])
@pytest.mark.parametrize(
    "make", [scale_space.difference_of_gaussians, scale_space.gaussian_derivatives]
)
def test_widths_however_small_or_large_leave_filters_of_the_norm(make, sigma):
    init = make(sigma=sigma)
    for size in ((3, 3), (4, 4)):
        kernel = jax.jit(lambda key, size=size: init(key, (*size, 1, 4)))(jax.random.key(1))
        np.testing.assert_allclose(np.sum(np.asarray(kernel) ** 2), 2, rtol=1e-4)


def test_bad_input_gets_a_sentence():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="a kernel of 2×2 is too small for a difference of Gauss"):
        scale_space.difference_of_gaussians()(key, (2, 2, 3, 8))
    with pytest.raises(ValueError, match="1×1 is too small for a derivative of order 2"):
        scale_space.gaussian_derivatives()(key, (1, 1, 3, 8))
    for orders in ((), (0, 1)):
        with pytest.raises(ValueError, match="must be one or more derivatives"):
            scale_space.gaussian_derivatives(orders=orders)
    for sigma in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="must be a range of widths"):
            scale_space.difference_of_gaussians(sigma=sigma)
    with pytest.raises(ValueError, match="must be shares"):
        scale_space.gaussian_derivatives(grey=2.0)
