"""The usual starts are JAX's, bit by bit, and torchvision's is PyTorch's in its moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.kernel_init import standard

BY_VARIANCE = [
    "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "glorot_normal", "glorot_uniform",
]  # fmt: skip


@pytest.mark.parametrize("name", [*BY_VARIANCE, "orthogonal", "delta_orthogonal"])
def test_bits_are_those_of_jax(name):
    key = jax.random.key(0)
    for shape in ((3, 3, 3, 8), (4, 2, 6), (3, 2, 1, 2, 5)):
        theirs = getattr(jax.nn.initializers, name)()(key, shape)
        np.testing.assert_array_equal(getattr(standard, name)()(key, shape), theirs)
        if name in BY_VARIANCE:
            theirs = getattr(jax.nn.initializers, name)()(key, shape, jnp.float16)
            np.testing.assert_array_equal(
                getattr(standard, name)()(key, shape, jnp.float16), theirs
            )


@pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal"])
def test_scale_is_jaxs_and_every_singular_value(name):
    key, shape = jax.random.key(1), (3, 3, 4, 6)
    kernel = getattr(standard, name)(2.5)(key, shape)
    theirs = getattr(jax.nn.initializers, name)(2.5)(key, shape)
    np.testing.assert_array_equal(kernel, theirs)
    matrix = np.asarray(kernel, np.float64)
    matrix = matrix.reshape(36, 6) if name == "orthogonal" else matrix[1, 1]
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), 2.5, rtol=1e-5)


@pytest.mark.parametrize("size", [3, 4])
def test_delta_orthogonal_keeps_norms_under_same_padding(size):
    kernel = standard.delta_orthogonal()(jax.random.key(2), (size, size, 3, 5))
    x = jax.random.normal(jax.random.key(3), (1, 6, 6, 3))
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(
        np.linalg.norm(np.asarray(y), axis=-1), np.linalg.norm(np.asarray(x), axis=-1), rtol=1e-4
    )


def test_bad_shapes_get_a_sentence():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="kernel of 8 input and 4 output channels"):
        standard.delta_orthogonal()(key, (3, 3, 8, 4))
    for shape in ((4, 8), (2, 2, 2, 2, 4, 8)):
        with pytest.raises(ValueError, match="needs 1 to 3 spatial axes"):
            standard.delta_orthogonal()(key, shape)
    with pytest.raises(ValueError, match="is no matrix"):
        standard.orthogonal()(key, (4,))


def test_torchvision_is_he_normal_with_fan_out():
    """N(0, 2/(taps·c_out)): by NumPy's moments, and by SciPy's distribution function."""
    from scipy import stats

    kernel = np.asarray(standard.torchvision()(jax.random.key(4), (5, 3, 16, 40)), np.float64)
    result = stats.kstest(kernel.ravel(), stats.norm(0, np.sqrt(2 / (5 * 3 * 40))).cdf)
    assert result.pvalue > 0.01


def test_torchvision_has_pytorchs_moments():
    torch = pytest.importorskip("torch")
    ours = np.asarray(standard.torchvision()(jax.random.key(5), (3, 3, 64, 128)), np.float64)
    weight = torch.empty(128, 64, 3, 3, dtype=torch.float64)
    torch.manual_seed(0)
    torch.nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    theirs = weight.numpy()
    spread = theirs.std()
    np.testing.assert_allclose(ours.std(), spread, rtol=0.01)
    assert abs(ours.mean() - theirs.mean()) < 0.02 * spread
    np.testing.assert_allclose(np.mean(ours**4), np.mean(theirs**4), rtol=0.05)  # not truncated
    assert np.abs(ours).max() > 4 * spread
