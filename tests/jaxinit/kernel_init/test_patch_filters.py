"""Filters fitted on patches: they whiten, and they are centroids of whitened patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from jaxinit.kernel_init import patch_kmeans, patch_whitening

KEY = jax.random.key(0)


def smooth_images(number=40, size=12, channels=3, seed=0):
    """Images whose pixels are correlated in space and between channels, of mean 0, variance 1."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((number, size + 2, size + 2, channels))
    images = sum(images[:, i : i + size, j : j + size] for i in range(3) for j in range(3))
    images = images @ (np.eye(channels) + 0.7)
    return ((images - images.mean()) / images.std()).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    return smooth_images()


def all_patches(images, size):
    """Every patch, in float64, as rows in the order of a kernel's taps."""
    windows = np.lib.stride_tricks.sliding_window_view(
        np.asarray(images, np.float64), size, axis=(1, 2)
    )
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, np.prod(size) * images.shape[3])


def rows(kernel):
    return np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])


@pytest.mark.parametrize("size", [(3, 3), (2, 2), (1, 4)])
def test_filtered_patches_have_the_covariance_of_whitened_ones(images, size):
    patches = all_patches(images, size)
    taps = patches.shape[1]
    init = patch_whitening(images, relative_norm=None, epsilon=1e-6, patches=60_000)
    kernel = init(KEY, (*size, 3, 2 * taps))
    answers = patches @ rows(kernel)[:, ::2]
    # The drawn patches' covariance is that of all to about √(2/60000).
    np.testing.assert_allclose(np.cov(answers.T), np.eye(taps), atol=0.04)


def test_they_are_the_eigenvectors_in_pairs_of_both_signs_the_largest_first(images):
    kernel = rows(patch_whitening(images, relative_norm=None)(KEY, (3, 3, 3, 54)))
    np.testing.assert_array_equal(kernel[:, 1::2], -kernel[:, ::2])
    pca = PCA().fit(all_patches(images, (3, 3)))
    norms = np.linalg.norm(kernel[:, ::2], axis=0)
    assert (np.diff(norms) > 0).all()  # of 1/√(λ + ε)
    np.testing.assert_allclose(norms, (pca.explained_variance_ + 5e-4) ** -0.5, rtol=0.05)
    leading = np.abs(kernel[:, 0] @ np.asarray(pca.components_)[0]) / norms[0]
    assert leading > 0.999


def test_of_the_very_patches_it_is_numpys_whitening():
    images = smooth_images(number=300, size=2)  # whose patches are the images
    kernel = rows(patch_whitening(images, relative_norm=None, patches=4000)(KEY, (2, 2, 3, 24)))
    which = np.asarray(
        jax.random.randint(
            jax.random.split(jax.random.split(KEY)[0], 3)[0], (4000, 1, 1), 0, 300, jnp.int32
        )
    ).ravel()
    drawn = images.astype(np.float64)[which].reshape(4000, -1)
    values, vectors = np.linalg.eigh(np.cov(drawn.T, bias=True))
    expected = (vectors / np.sqrt(values + 5e-4))[:, ::-1]
    expected *= np.sign(np.sum(expected * kernel[:, ::2], axis=0))
    np.testing.assert_allclose(kernel[:, ::2], expected, rtol=1e-3, atol=1e-3)


def test_more_channels_whiten_too_and_repeat_nothing(images):
    patches = all_patches(images, (2, 2))
    init = patch_whitening(images, relative_norm=None, epsilon=1e-6, patches=60_000)
    kernel = rows(init(KEY, (2, 2, 3, 60)))  # 24, 24 and half of 24
    np.testing.assert_array_equal(kernel[:, 1::2], -kernel[:, ::2])
    positive = kernel[:, ::2]
    np.testing.assert_allclose(np.cov((patches @ positive[:, 12:24]).T), np.eye(12), atol=0.04)
    cosines = np.corrcoef(positive.T) - np.eye(30)
    assert np.abs(cosines).max() < 0.999
    fewer = rows(init(KEY, (2, 2, 3, 7)))
    np.testing.assert_allclose(fewer, kernel[:, :7], atol=1e-4)


def test_integers_are_what_they_are_as_floating_point(images):
    pixels = np.clip(128 + 50 * images, 0, 255).astype(np.uint8)
    one = patch_whitening(pixels)(KEY, (3, 3, 3, 54))
    other = patch_whitening(pixels.astype(np.float32))(KEY, (3, 3, 3, 54))
    np.testing.assert_array_equal(one, other)


def whitened_patches(patches, contrast=0.0025, epsilon=0.1):
    """What Coates and Ng make of patches, by NumPy."""
    variance = patches.var(axis=1, keepdims=True) + contrast * patches.var()
    normal = (patches - patches.mean(axis=1, keepdims=True)) / np.sqrt(variance)
    normal -= normal.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(normal.T, bias=True))
    whitening = vectors @ np.diag((values.clip(0) + epsilon) ** -0.5) @ vectors.T
    return normal @ whitening, whitening


def test_centroids_are_as_near_to_whitened_patches_as_scikit_learns(images):
    points, _ = whitened_patches(all_patches(images, (3, 3)))
    init = patch_kmeans(images, relative_norm=None, whitened=True)
    centroids = rows(init(KEY, (3, 3, 3, 8))).T
    reference = KMeans(8, random_state=0).fit(points)
    squares = np.square(points[:, None] - centroids[None]).sum(axis=2)
    assert squares.min(axis=1).sum() < 1.02 * float(reference.inertia_ or 0)
    assert len(np.unique(squares.argmin(axis=1))) == 8


def test_filters_for_raw_images_are_the_centroids_times_the_whitening(images):
    patches = all_patches(images, (3, 3))
    _, whitening = whitened_patches(patches)
    filters, centroids = (
        rows(patch_kmeans(images, relative_norm=None, whitened=own)(KEY, (3, 3, 3, 8)))
        for own in (False, True)
    )
    np.testing.assert_allclose(filters, whitening @ centroids, rtol=0.1, atol=0.1)
    np.testing.assert_allclose(filters.sum(axis=0), 0, atol=1e-3)  # no answer to brightness
    # But for each patch's contrast they answer as the centroids do to whitened patches.
    level = patches - patches.mean(axis=1, keepdims=True)
    raw, white = patches @ filters, level @ whitening @ centroids
    assert np.corrcoef(raw.ravel(), white.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("make", [patch_whitening, patch_kmeans])
def test_norm_dtype_key_and_transformations(make, images):
    init = make(images, relative_norm=3.0, patches=1000)
    shape = (3, 3, 3, 8)
    keys = jax.random.split(KEY, 2)
    both = jax.jit(jax.vmap(lambda key: init(key, shape)))(keys)
    eager = [init(key, shape) for key in keys]
    for one, own in zip(both, eager, strict=True):
        np.testing.assert_allclose(float(jnp.sum(own**2)), 9 * 2 * 3, rtol=1e-5)
        np.testing.assert_allclose(np.abs(rows(one)), np.abs(rows(own)), atol=2e-3)
    assert not np.allclose(*eager)
    half = init(KEY, shape, jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), init(KEY, shape), atol=0.02)


@pytest.mark.parametrize("make", [patch_whitening, patch_kmeans])
def test_it_fits_kernel_init_of_flax(make, images):
    from flax import linen

    layer = linen.Conv(8, (3, 3), kernel_init=make(images))
    variables = layer.init(KEY, images[:1])
    kernel = jnp.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(jnp.sum(kernel**2), 6, rtol=1e-5)


@pytest.mark.parametrize("make", [patch_whitening, patch_kmeans])
def test_bad_input_gets_a_sentence(make, images):
    for wrong, said in [
        (images[0], r"shape \(12, 12, 3\) are not \(number, height, width, channels\)"),
        (images[:0], "are not"),
        (np.zeros_like(images), "constant"),
        (np.where(images > 3, np.nan, images), "NaN"),
    ]:
        with pytest.raises(ValueError, match=said):
            make(wrong)
    with pytest.raises(ValueError, match="epsilon=-1"):
        make(images, epsilon=-1.0)
    for shape, said in [
        ((3, 3, 1, 8), "1 input channels, the images have 3"),
        ((13, 3, 3, 8), "13×3 is larger than the images, which are 12×12"),
        ((8, 3, 3), "has not the sides"),
    ]:
        with pytest.raises(ValueError, match=said):
            make(images)(KEY, shape)
    with pytest.raises(ValueError, match="needs at least 28 patches, and patches=20"):
        make(images, patches=20)(KEY, (3, 3, 3, 8))
    with pytest.raises(ValueError, match="at least 28 patches, and the images have 16: give more"):
        make(images[:1, :6, :6])(KEY, (3, 3, 3, 8))


def test_k_means_has_sentences_of_its_own(images):
    with pytest.raises(ValueError, match="constant"):
        patch_kmeans(np.broadcast_to(np.arange(4.0)[:, None, None, None], (4, 8, 8, 3)))
    with pytest.raises(ValueError, match="needs at least 64 patches"):
        patch_kmeans(images, patches=40)(KEY, (3, 3, 3, 64))
    with pytest.raises(ValueError, match="restarts=0"):
        patch_kmeans(images, restarts=0)
