"""Identities are PyTorch's and pass their input on; impulses are one tap a slice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import kernels
from jaxinit.kernel_init import sparse_taps


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((3, 3, 3, 8), 1), ((5, 3, 6, 2), 1), ((4, 4, 2, 6), 3), ((1, 1, 4, 4), 1), ((6, 2, 3), 1),
     ((3, 1, 4), 4), ((3, 4, 5, 2, 4), 2)],
)  # fmt: skip
def test_dirac_is_pytorchs(shape, groups):
    torch = pytest.importorskip("torch")
    weight = torch.empty(shape[-1], shape[-2], *shape[:-2])
    torch.nn.init.dirac_(weight, groups)
    theirs = np.moveaxis(weight.numpy(), (0, 1), (-1, -2))
    ours = sparse_taps.dirac(groups)(jax.random.key(0), shape)
    np.testing.assert_array_equal(ours, theirs)


def convolved(x, kernel, groups=1):
    letters = "DHW"[-(kernel.ndim - 2) :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,) * len(letters),
        "SAME",
        dimension_numbers=numbers,
        feature_group_count=groups,
    )


@pytest.mark.parametrize("shape", [(3, 3, 3, 5), (7, 3, 4, 2), (5, 2, 2), (3, 1, 3, 2, 3)])
def test_convolution_with_dirac_is_the_identity(shape):
    x = jax.random.normal(jax.random.key(1), (2, *(6,) * (len(shape) - 2), shape[-2]))
    y = convolved(x, sparse_taps.dirac()(jax.random.key(0), shape))
    common = min(shape[-2:])
    np.testing.assert_array_equal(y[..., :common], x[..., :common])
    assert not np.asarray(y[..., common:]).any()


def test_grouped_convolution_with_dirac_is_the_identity_in_each_group():
    x = jax.random.normal(jax.random.key(1), (1, 5, 5, 6))
    y = convolved(x, sparse_taps.dirac(groups=3)(jax.random.key(0), (3, 3, 2, 6)), groups=3)
    np.testing.assert_array_equal(y, x)


def test_dirac_of_an_even_size_moves_its_input_by_one_pixel():
    x = jax.random.normal(jax.random.key(1), (1, 6, 2))
    y = convolved(x, sparse_taps.dirac()(jax.random.key(0), (4, 2, 2)))
    np.testing.assert_array_equal(y[:, :-1], x[:, 1:])


def test_bad_groups_get_a_sentence():
    with pytest.raises(ValueError, match="must be 1 or more"):
        sparse_taps.dirac(groups=0)
    with pytest.raises(ValueError, match="cannot be split into 3 groups"):
        sparse_taps.dirac(groups=3)(jax.random.key(0), (3, 3, 2, 8))


@pytest.mark.parametrize("shape", [(3, 4, 3, 5), (7, 1, 4), (2, 2, 3, 3, 4), (1, 1, 2, 3)])
def test_an_impulse_is_one_tap_of_one_size(shape):
    kernel = sparse_taps.impulse(2.0)(jax.random.key(2), shape)
    slices = np.asarray(kernels.to_slices(kernel))
    np.testing.assert_array_equal(np.count_nonzero(slices, axis=1), 1)
    sizes = np.abs(slices).sum(axis=1)
    np.testing.assert_allclose(sizes, 2.0 * np.sqrt(2 / shape[-1]), rtol=1e-6)


def test_impulses_are_anywhere_alike_and_of_either_sign():
    from scipy import stats

    slices = kernels.to_slices(sparse_taps.impulse()(jax.random.key(3), (3, 3, 16, 250)))
    counts = np.count_nonzero(np.asarray(slices), axis=0)
    assert stats.chisquare(counts).pvalue > 0.001
    positive = int(jnp.sum(slices > 0))
    assert stats.binomtest(positive, 4000).pvalue > 0.001
    assert np.asarray(slices > 0).any(axis=0).all()
    assert np.asarray(slices < 0).any(axis=0).all()
