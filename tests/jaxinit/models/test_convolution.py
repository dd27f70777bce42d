"""Convolution as a matrix product against XLA's own: values, gradients, many kernels at once."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.models import convolution

SIZES = (1, 2, 3, 4, 5, 8, 16)
BOTH = (convolution.matmul_convolution, convolution.plain_convolution)


def assert_close(a, b, tolerance=1e-5):
    """Equal to a fraction of the largest value."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.max(jnp.abs(b))))


def inputs(size, taps, channels=(3, 4), images=2):
    x_key, kernel_key = jax.random.split(jax.random.key(size))
    x = jax.random.normal(x_key, (images, size, size, channels[0]))
    return x, jax.random.normal(kernel_key, (taps, taps, *channels))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", [1, 3, 7])
def test_values_and_gradients_are_those_of_lax(taps, stride):
    def run(convolve, x, kernel):
        y, back = jax.vjp(lambda a, b: convolve(a, b, stride=stride, padding=taps // 2), x, kernel)
        return y, back(jnp.cos(3 * y))

    given = [inputs(size, taps) for size in SIZES]
    ours, lax = (
        jax.jit(lambda given, c=c: [run(c, x, kernel) for x, kernel in given])(given) for c in BOTH
    )
    for size, a, b in zip(SIZES, ours, lax, strict=True):
        assert a[0].shape == (2, -(-size // stride), -(-size // stride), 4)
        # A release of XLA's differed by 1.001e-5 from ours in one of a kernel's gradients.
        jax.tree.map(lambda a, b: assert_close(a, b, 2e-5), a, b)


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (3, 2), (7, 2)])
def test_slices_of_a_batch_and_what_is_left_are_those_of_lax(monkeypatch, taps, stride):
    """Of 25 images three at a time, so that one is left; their gradients, too."""
    x, kernel = inputs(8, taps, images=25)
    one = 4 * 8 * 8 * 3 if stride == 1 else (8 // stride) ** 2 * taps**2 * 3
    monkeypatch.setattr(convolution, "_CACHE", 3 * one * 4)
    monkeypatch.setattr(convolution, "_cores", lambda: 1)

    def run(convolve):
        call = functools.partial(convolve, stride=stride, padding=taps // 2)
        y, back = jax.vjp(call, x, kernel)
        _, along = jax.jvp(call, (x, kernel), (jnp.sin(5 * x), jnp.cos(5 * kernel)))
        return y, back(jnp.cos(3 * y)), along

    assert "scan" in str(jax.make_jaxpr(lambda: run(convolution.matmul_convolution))())
    jax.tree.map(
        functools.partial(assert_close, tolerance=2e-5),
        *(jax.jit(run, static_argnums=0)(c) for c in BOTH),
    )


def test_any_number_of_images_can_be_exported():
    _, kernel = inputs(8, 3)
    call = jax.jit(lambda x: convolution.matmul_convolution(x, kernel, stride=1, padding=1))
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 8, 8, 3"), jnp.float32)
    exported = jax.export.export(call)(images)
    x = inputs(8, 3, images=40)[0]
    assert_close(exported.call(x), call(x))


@pytest.mark.parametrize(("height", "width", "padding"), [(4, 6, 1), (5, 2, 0), (1, 7, 2)])
def test_maps_that_are_not_square(height, width, padding):
    x = jax.random.normal(jax.random.key(0), (2, height, width, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 3, 4))
    ours, lax = (c(x, kernel, stride=1, padding=padding) for c in BOTH)
    assert_close(ours, lax)


def test_by_hand():
    """3×3 ones over [[1, 2], [3, 4]] with padding 1: every position sees all four."""
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    y = convolution.matmul_convolution(x, jnp.ones((3, 3, 1, 1)), stride=1, padding=1)
    np.testing.assert_array_equal(y, jnp.full((1, 2, 2, 1), 10.0))
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 2].set(1.0)  # the right neighbour
    y = convolution.matmul_convolution(x, kernel, stride=1, padding=1)
    np.testing.assert_array_equal(y[0, :, :, 0], [[2.0, 0.0], [4.0, 0.0]])


@pytest.mark.parametrize(
    ("size", "taps", "stride", "live"),
    [
        (1, 3, 1, (1, 2)),  # one pixel meets the middle tap only
        (2, 3, 1, (0, 3)),  # position 0 meets taps 1 and 2, position 1 taps 0 and 1
        (2, 3, 2, (1, 3)),  # position 0 alone
        (4, 3, 2, (0, 3)),
        (1, 1, 2, (0, 1)),
        (1, 7, 2, (3, 4)),
        (2, 7, 2, (3, 5)),
        (3, 7, 2, (1, 6)),  # positions 0 and 2: taps 3 to 5, and 1 to 3
        (3, 7, 1, (1, 6)),
    ],
)
def test_live_taps(size, taps, stride, live):
    assert convolution.live_taps(size, taps, stride, taps // 2) == live


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 1), (4, 1), (8, 1), (4, 2)])
def test_many_kernels_at_once_are_a_loop(size, stride):
    x = jax.random.normal(jax.random.key(0), (3, 2, size, size, 4))
    kernels = jax.random.normal(jax.random.key(1), (3, 3, 3, 4, 5))

    def run(x, kernel):
        y, back = jax.vjp(
            lambda a, b: convolution.matmul_convolution(a, b, stride=stride, padding=1), x, kernel
        )
        return y, back(y)

    together = jax.jit(jax.vmap(run))(x, kernels)
    alone = jax.jit(run)
    loop = [alone(a, b) for a, b in zip(x, kernels, strict=True)]
    jax.tree.map(assert_close, together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop))
    assert "conv" not in jax.jit(jax.vmap(run)).lower(x, kernels).as_text().replace("convert", "")


def test_jit_is_eager():
    x, kernel = inputs(4, 3)
    call = functools.partial(convolution.matmul_convolution, stride=1, padding=1)
    assert_close(jax.jit(call)(x, kernel), call(x, kernel), 1e-6)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_bfloat16(size):
    x, kernel = inputs(size, 3)
    x16, kernel16 = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    y = convolution.matmul_convolution(x16, kernel16, stride=1, padding=1)
    assert y.dtype == jnp.bfloat16
    exact = convolution.plain_convolution(
        x16.astype(jnp.float32), kernel16.astype(jnp.float32), stride=1, padding=1
    )
    assert_close(y.astype(jnp.float32), exact, 2**-7)


def test_the_plain_twin_is_seen_under_jit_that_was_traced_before():
    x, kernel = inputs(8, 3)
    convolve = jax.jit(
        lambda x, kernel: convolution.matmul_convolution(x, kernel, stride=1, padding=1)
    )
    expected = convolve(x, kernel)
    with convolution.by_plain_twin(True):
        assert "conv_general_dilated" in str(jax.make_jaxpr(convolve)(x, kernel))
        assert_close(convolve(x, kernel), expected)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(convolve)(x, kernel))
