"""Norms and angles of kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import diagnostics
from tests import small

LIVE = {"layer2_0/conv2": (slice(1, 2), slice(1, 3))}
LAST = "layer2_0/conv2"


def test_norms_of_kernels(params):
    norms = diagnostics.kernel_norms(params, live=LIVE)
    assert list(norms) == list(small.layer_names(params))
    kernel = np.asarray(small.get_kernel(params, LAST))
    assert float(norms[LAST]) == pytest.approx(np.sqrt((kernel[1:2, 1:3] ** 2).sum()))
    assert list(diagnostics.kernel_norms(params, layers=2)) == list(small.layer_names(params)[:2])


@pytest.mark.parametrize("step", [1.0, 1e-4])
def test_angles_are_those_of_float64_however_small(params, step):
    rng = np.random.default_rng(3)
    kernel = np.asarray(small.get_kernel(params, LAST), np.float64)
    moved = (3 * (kernel + step * rng.normal(size=kernel.shape))).astype(np.float32)
    after = small.set_kernels(params, {LAST: jnp.asarray(moved)})
    for live in (None, LIVE):
        taps = (slice(None), slice(None)) if live is None else live[LAST]
        one, other = kernel[taps].ravel(), moved[taps].ravel().astype(np.float64)
        cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        angles = diagnostics.kernel_angles(params, after, live=live)
        assert float(angles[LAST]) == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-3)
        assert float(angles["conv1"]) == 0


def test_opposite_kernels_and_those_of_zeros_have_an_angle(params):
    opposite = jax.tree.map(jnp.negative, params)
    angles = diagnostics.kernel_angles(params, opposite, layers=1)
    assert {name: float(a) for name, a in angles.items()} == {"conv1": 180.0}
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert float(diagnostics.kernel_angles(params, zeros)["conv1"]) == 0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_norms_and_angles_hold_where_squares_leave_the_range(params, dtype):
    scale = {jnp.float16: 1e4, jnp.bfloat16: 1e30, jnp.float32: 1e-30}[dtype]
    kernels = {name: small.get_kernel(params, name) for name in small.layer_names(params)}
    large = {name: jnp.asarray(scale * own, dtype) for name, own in kernels.items()}
    large = small.set_kernels(params, large)
    norms = diagnostics.kernel_norms(large)
    angles = diagnostics.kernel_angles(large, params)
    for name, own in kernels.items():
        one = np.asarray(small.get_kernel(large, name)).astype(np.float64).ravel()
        other = np.asarray(own, np.float64).ravel()
        lengths = np.linalg.norm(one), np.linalg.norm(other)
        assert float(norms[name]) == pytest.approx(lengths[0], rel=1e-5)
        cosine = min(one @ other / lengths[0] / lengths[1], 1)
        assert float(angles[name]) == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-3)
