"""Kernels are computed in float32 at least."""

import jax
import jax.numpy as jnp

from jaxinit.kernel_init import working_precision


def test_float64_is_kept_where_there_is_one_and_all_else_is_float32():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, float, "float64"):
        assert working_precision.of(dtype) == jnp.float32
    with jax.enable_x64(True):
        assert working_precision.of(jnp.float64) == jnp.float64
        assert working_precision.of(jnp.bfloat16) == jnp.float32
