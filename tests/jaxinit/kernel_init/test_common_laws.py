"""What every kernel initialiser made of a formula does alike, whatever the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import kernel_init

# Those that have the norm they are told, with it; then those that have a norm of their own.
SCALED = {
    "centred_gabor_kernel": kernel_init.centred_gabor_kernel,
    "colour_gabor": kernel_init.colour_gabor,
    "difference_of_gaussians": kernel_init.difference_of_gaussians,
    "difference_of_gaussians, coloured": lambda norm: kernel_init.difference_of_gaussians(
        norm, grey=0.25, opponent=0.5
    ),
    "gaussian_derivatives": kernel_init.gaussian_derivatives,
    "smooth": kernel_init.smooth,
    "closed_form_covariance": lambda norm: kernel_init.closed_form_covariance(0.4, norm),
    "impulse": kernel_init.impulse,
    "natural_whitening": kernel_init.natural_whitening,
    "dct": kernel_init.dct,
}
OWN = {
    "gabor_kernel": kernel_init.gabor_kernel,
    "he_normal": kernel_init.he_normal(),
    "he_uniform": kernel_init.he_uniform(),
    "lecun_normal": kernel_init.lecun_normal(),
    "lecun_uniform": kernel_init.lecun_uniform(),
    "glorot_normal": kernel_init.glorot_normal(),
    "glorot_uniform": kernel_init.glorot_uniform(),
    "orthogonal": kernel_init.orthogonal(),
    "delta_orthogonal": kernel_init.delta_orthogonal(),
    "torchvision": kernel_init.torchvision(),
    "dirac": kernel_init.dirac(),
}
MADE = {**OWN, **{name: make(1.5) for name, make in SCALED.items()}}
PLANE = ("gabor_kernel", "centred_gabor_kernel", "colour_gabor")  # of two spatial axes alone
SPREAD = ("difference_of_gaussians", "gaussian_derivatives")  # need several taps
SHAPES = [
    (3, 3, 4, 8), (4, 6, 1, 5), (1, 1, 3, 4), (5, 2, 4), (3, 4, 3, 1, 2),
]  # fmt: skip


def compiled(init, shape, dtype=jnp.float32):
    """A function of the key alone: one program compiles faster than its steps one by one."""
    return jax.jit(lambda key: init(key, shape, dtype))


def fits(name, shape):
    if name in PLANE and len(shape) != 4:
        return False
    return not name.startswith(SPREAD) or max(shape[:-2]) >= 3


def test_all_that_is_offered_is_tested_here():
    fitted = {"patch_kmeans", "patch_whitening"}  # which need images of the kernel's channels
    assert {name.partition(",")[0] for name in MADE} == set(kernel_init.__all__) - fitted


@pytest.mark.parametrize("name", MADE)
def test_any_size_and_number_of_channels(name):
    shapes = [shape for shape in SHAPES if fits(name, shape)]
    kernels = jax.jit(lambda key: [MADE[name](key, shape) for shape in shapes])(jax.random.key(1))
    for kernel, shape in zip(map(np.asarray, kernels), shapes, strict=True):
        assert kernel.shape == shape
        assert kernel.dtype == np.float32
        assert np.isfinite(kernel).all()
        assert np.abs(kernel).max() > 0


@pytest.mark.parametrize("name", SCALED)
def test_the_norm_is_the_multiple_that_is_asked_for(name):
    cases = ((2.5, (5, 4, 3, 6)), (12.0, (3, 3, 1, 4)))
    draw = jax.jit(lambda key: [SCALED[name](norm)(key, shape) for norm, shape in cases])
    for kernel, (norm, shape) in zip(draw(jax.random.key(2)), cases, strict=True):
        kernel = np.asarray(kernel, np.float64)
        np.testing.assert_allclose(np.sum(kernel**2), norm**2 * 2 * shape[2], rtol=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_jit_and_vmap_over_keys_agree_with_eager(name):
    shape = (5, 4, 3, 6)
    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(lambda key: MADE[name](key, shape)))(keys)
    for key, kernel in zip(keys, together, strict=True):
        np.testing.assert_allclose(kernel, MADE[name](key, shape), atol=2e-5)
    if name not in ("dirac", "natural_whitening"):  # which draw nothing
        assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize("name", MADE)
def test_half_precision_is_a_kernel_of_float32_rounded(name):
    shape, key = (5, 4, 3, 6), jax.random.key(4)
    half = compiled(MADE[name], shape, jnp.float16)(key)
    assert half.dtype == jnp.float16
    assert bool(jnp.all(jnp.isfinite(half)))
    if not name.startswith(("he_", "lecun_", "glorot_", "torchvision")):  # JAX draws those anew
        full = compiled(MADE[name], shape)(key)
        # Half an ulp of normal numbers, or of the smallest.
        np.testing.assert_allclose(half.astype(jnp.float32), full, rtol=2**-11, atol=2**-25)


@pytest.mark.parametrize("name", MADE)
def test_double_precision_is_more_than_the_dtype(name):
    with jax.enable_x64(True):
        kernel = compiled(MADE[name], (5, 4, 3, 6), jnp.float64)(jax.random.key(5))
        assert kernel.dtype == jnp.float64
        if name in SCALED and name not in PLANE:
            np.testing.assert_allclose(np.sum(np.asarray(kernel) ** 2), 1.5**2 * 6, rtol=1e-13)


@pytest.mark.parametrize("name", [name for name in MADE if name not in PLANE])
def test_what_is_no_kernel_gets_a_sentence(name):
    if name in SCALED or name == "dirac":
        with pytest.raises(ValueError, match=r"has not the sides \(height, width, in, out\)"):
            MADE[name](jax.random.key(0), (3, 4))
        with pytest.raises(ValueError, match=r"looks like \(out, in, height, width\)"):
            MADE[name](jax.random.key(0), (64, 3, 7, 7))


@pytest.mark.parametrize("name", PLANE)
def test_gabor_filters_are_of_two_spatial_axes(name):
    for shape in ((5, 2, 4), (3, 3, 3, 1, 2)):
        with pytest.raises(ValueError, match="choose 2-D convolutions"):
            MADE[name](jax.random.key(0), shape)
