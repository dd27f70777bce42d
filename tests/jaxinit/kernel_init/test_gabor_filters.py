"""Gabor filters are those of the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.kernel_init import gabor_filters

PUBLISHED = [(1.5, 2.5), (0, np.pi), (2, 13), (0, 2 * np.pi), (0.9, 1.1)]  # σ, θ, λ, ψ, γ
# Written out: from −⌈n/2⌉ to ⌊n/2⌋ in n − 1 equal steps.
GRIDS = {
    1: [-1],
    3: [-2, -0.5, 1],
    4: [-2, -2 / 3, 2 / 3, 2],
    5: [-3, -1.75, -0.5, 0.75, 2],
    6: [-3, -1.8, -0.6, 0.6, 1.8, 3],
    7: [-4, -17 / 6, -5 / 3, -0.5, 2 / 3, 11 / 6, 3],
    8: [-4, -20 / 7, -12 / 7, -4 / 7, 4 / 7, 12 / 7, 20 / 7, 4],
    11: [-6, -4.9, -3.8, -2.7, -1.6, -0.5, 0.6, 1.7, 2.8, 3.9, 5],
}


def gabor_by_hand(grids, sigma, theta, wavelength, phase, aspect):
    slices = np.empty((len(grids[0]), len(grids[1])))
    for i, y in enumerate(grids[0]):
        for j, x in enumerate(grids[1]):
            along = x * np.cos(theta) + y * np.sin(theta)
            across = -x * np.sin(theta) + y * np.cos(theta)
            envelope = np.exp(-0.5 * (along**2 / sigma**2 + across**2 * aspect**2 / sigma**2))
            slices[i, j] = envelope * np.cos(2 * np.pi * along / wavelength + phase)
    return slices


def drawn_parameters(key, ranges, outputs):
    """For each output channel its five numbers, from the keys that the kernel draws them with."""
    drawn = [
        np.asarray(jax.random.uniform(own, (1, 1, outputs), jnp.float32, low, high)).ravel()
        for own, (low, high) in zip(jax.random.split(key, 5), ranges, strict=True)
    ]
    return np.asarray(drawn, np.float64).T


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 3, 2), (3, 3, 1, 2), (4, 4, 3, 2), (5, 5, 4, 2), (6, 6, 1, 2), (7, 7, 3, 2),
     (8, 8, 4, 2), (11, 11, 3, 2), (3, 7, 4, 2), (8, 5, 1, 2)],
)  # fmt: skip
def test_gabor_is_the_formula_with_parameters_in_range(shape):
    key = jax.random.key(2)
    kernel = np.asarray(gabor_filters.gabor_kernel(key, shape))
    grids = [GRIDS[size] for size in shape[:2]]
    for channel, parameters in enumerate(drawn_parameters(key, PUBLISHED, shape[3])):
        expected = gabor_by_hand(grids, *parameters)
        for inputs in range(shape[2]):
            np.testing.assert_allclose(kernel[:, :, inputs, channel], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 1, 2), (4, 4, 3, 2), (7, 7, 3, 2), (3, 8, 4, 2)])
def test_centred_gabor_is_the_formula_in_a_centred_frame_of_the_kernels_size(shape):
    key, scale = jax.random.key(3), np.sqrt(shape[0] * shape[1]) / 7
    kernel = np.asarray(gabor_filters.centred_gabor_kernel(1.0)(key, shape))
    ranges = [(1.5 * scale, 2.5 * scale), (0, np.pi), (2, 13 * scale), (0, 2 * np.pi), (0.9, 1.1)]
    grids = [np.arange(size) - (size - 1) / 2 for size in shape[:2]]
    parameters = drawn_parameters(key, ranges, shape[3])
    expected = np.stack([gabor_by_hand(grids, *own) for own in parameters], axis=-1)
    expected = np.repeat(expected[:, :, None], shape[2], axis=2)
    expected *= np.sqrt(2 * shape[2] / np.sum(expected**2))
    np.testing.assert_allclose(kernel, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "outputs", "expected"),
    [(3, 16, 4.15), (5, 64, 10.98), (7, 64, 12.18), (11, 64, 13.04), (3, 512, 23.47)],
)
def test_norms_of_gabor_filters_are_as_documented(size, outputs, expected):
    """Root mean squares of many filters, in units of the default norm, for any input channels."""
    for inputs in (1, 4):
        many = gabor_filters.gabor_kernel(jax.random.key(5), (size, size, inputs, 20000))
        squared = float(jnp.sum(many**2)) * outputs / 20000
        np.testing.assert_allclose(np.sqrt(squared / (2 * inputs)), expected, rtol=0.01)


def test_a_key_keeps_its_filters():
    """Recorded results rest on them."""
    for size, expected in (
        (7, [0.276012, -0.122155, -0.179482, -0.047175]),
        (3, [0.895290, 0.738543, -0.100693, -0.812809]),
    ):
        kernel = gabor_filters.gabor_kernel(jax.random.key(7), (size, size, 3, 64))
        np.testing.assert_allclose(kernel[1, 2, 0, :4], expected, atol=2e-6)


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


@pytest.mark.parametrize("inputs", [2, 3, 4])
def test_coloured_filters_are_one_pattern_times_one_colour_in_the_shares_asked_for(inputs):
    key = jax.random.key(6)
    init = gabor_filters.colour_gabor(3.0, grey=0.5, opponent=0.25)
    kernel = np.asarray(init(key, (7, 7, inputs, 16)), np.float64)
    grey = opponent = 0
    colours = []
    for channel in range(16):
        taps = kernel[..., channel].reshape(49, inputs)
        _, values, directions = np.linalg.svd(taps, full_matrices=False)
        assert values[1] < 1e-5 * values[0]  # of rank one
        colours.append(directions[0])
        grey += np.abs(directions[0] - directions[0][0]).max() < 1e-4
        opponent += abs(directions[0].sum()) < 1e-4
    assert (grey, opponent) == (8, 4)
    # The patterns are those of the filters without colour.
    plain = gabor_filters.centred_gabor_kernel()(jax.random.split(key)[0], (7, 7, 1, 16))
    plain = np.asarray(plain, np.float64).reshape(49, 16)
    ours = np.einsum("dio,oi->do", kernel.reshape(49, inputs, 16), np.stack(colours))
    cosines = np.sum(plain * ours, 0) / np.linalg.norm(plain, axis=0) / np.linalg.norm(ours, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-5)
    ratios = np.linalg.norm(plain, axis=0) / np.linalg.norm(ours, axis=0)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)  # each colour has the norm 1


def test_one_channel_has_no_colours():
    coloured = gabor_filters.colour_gabor(2.0, grey=0.0, opponent=0.5)
    keys = jax.random.key(8), jax.random.split(jax.random.key(8))[0]
    made = coloured(keys[0], (5, 5, 1, 4))
    np.testing.assert_allclose(
        made, gabor_filters.centred_gabor_kernel(2.0)(keys[1], (5, 5, 1, 4)), rtol=1e-6
    )


@pytest.mark.parametrize(("grey", "opponent"), [(-0.1, 0.5), (0.5, -0.1), (0.7, 0.4)])
def test_shares_that_are_none_are_refused(grey, opponent):
    with pytest.raises(ValueError, match="must be shares of the filters"):
        gabor_filters.colour_gabor(grey=grey, opponent=opponent)
