import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import distances

SIZES = [(3, 3), (7, 7), (1, 1), (2, 4), (4, 3)]


def slices(size: tuple[int, int], n: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, size[0] * size[1]), dtype=np.float32)


def between(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def spectrum(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.fft.fft2(x.astype(float).reshape(-1, *size)).reshape(len(x), -1)


REFERENCES = {
    "euclidean": lambda x, size: x,
    "fourier": lambda x, size: np.abs(spectrum(x, size)),
    "fourier_real": lambda x, size: np.real(spectrum(x, size)),
    "cosine": lambda x, size: x / np.linalg.norm(x, axis=1, keepdims=True),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REFERENCES)
def test_distances_equal_those_of_the_full_transform(name, size):
    x = slices(size)
    features = distances.get(name).features(jnp.asarray(x), size)
    np.testing.assert_allclose(
        between(np.asarray(features)), between(REFERENCES[name](x, size)), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize(("size", "count"), [((3, 3), 5), ((7, 7), 25), ((2, 4), 6)])
def test_one_of_each_pair_of_frequencies_is_kept(size, count):
    for distance in (distances.fourier, distances.fourier_real):
        assert distance.features(jnp.asarray(slices(size)), size).shape == (12, count)


def test_by_hand():
    # A 1×2 slice (a, b) has the spectrum (a + b, a − b).
    x = jnp.array([[3.0, -1.0]])
    np.testing.assert_allclose(distances.fourier_real.features(x, (1, 2)), [[2, 4]], atol=1e-6)
    np.testing.assert_allclose(distances.fourier.features(-x, (1, 2)), [[2, 4]], atol=1e-6)
    np.testing.assert_allclose(distances.cosine.features(3 * x, (1, 2)), x / np.sqrt(10), rtol=1e-6)


def test_magnitudes_forget_shift_sign_and_reflection():
    x = slices((3, 3)).reshape(-1, 3, 3)
    expected = distances.fourier.features(jnp.asarray(x.reshape(-1, 9)), (3, 3))
    for same in (np.roll(x, (1, 2), (1, 2)), -x, x[:, ::-1, ::-1]):
        features = distances.fourier.features(jnp.asarray(same.reshape(-1, 9)), (3, 3))
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_the_real_parts_give_back_the_point_symmetric_part(size):
    x = slices(size)
    points = distances.fourier_real.features(jnp.asarray(x), size)
    assert distances.fourier_real.inverse is not None
    back = np.asarray(distances.fourier_real.inverse(points, size)).reshape(-1, *size)
    grid = x.reshape(-1, *size)
    reflected = np.roll(grid[:, ::-1, ::-1], (1, 1), (1, 2))
    np.testing.assert_allclose(back, (grid + reflected) / 2, atol=1e-5)
    np.testing.assert_allclose(
        back, np.fft.ifft2(np.real(spectrum(x, size)).reshape(-1, *size)).real, atol=1e-5
    )


def test_euclidean_inverse_is_the_identity_and_the_others_have_none():
    x = jnp.asarray(slices((3, 3)))
    assert distances.euclidean.inverse is not None
    np.testing.assert_array_equal(distances.euclidean.inverse(x, (3, 3)), x)
    assert distances.fourier.inverse is None
    assert distances.cosine.inverse is None


def test_cosine_ignores_scale_and_keeps_zero():
    x = jnp.asarray(slices((3, 3))).at[0].set(0)
    features = distances.cosine.features(x, (3, 3))
    np.testing.assert_allclose(features, distances.cosine.features(5 * x, (3, 3)), atol=1e-6)
    np.testing.assert_array_equal(features[0], np.zeros(9))
    np.testing.assert_allclose(np.linalg.norm(features[1:], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_jit_changes_nothing(name):
    x, metric = jnp.asarray(slices((3, 3))), distances.get(name)
    jitted = jax.jit(metric.features, static_argnums=1)(x, (3, 3))
    np.testing.assert_allclose(jitted, metric.features(x, (3, 3)), rtol=1e-5, atol=1e-5)


def test_an_unknown_distance_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"'l1' is not known.*euclidean, fourier, fourier_real"):
        distances.get("l1")


def test_every_distance_says_what_figures_call_it_and_what_suits_it():
    assert distances.names() == tuple(REFERENCES)
    found = {name: distances.get(name) for name in distances.names()}
    assert [own.label for own in found.values()] == [
        *("Euclidean", "Fourier", "Fourier (real part)", "Cosine")
    ]
    assert {name: own.representative for name, own in found.items()} == {
        "euclidean": "centroid",
        "fourier": "member",
        "fourier_real": "inverse",
        "cosine": "centroid",
    }
    assert {own.representative for own in found.values()} <= set(distances.REPRESENTATIVES)
