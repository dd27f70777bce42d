"""The precision in which kernels are computed before they get the dtype that was asked for."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def of(dtype: DTypeLike) -> jnp.dtype:
    """Tells in which dtype a kernel is computed: float64 where that is asked for, else float32.

    Args:
        dtype: Of the kernel; float64 counts as float32 while JAX has no 64 bits.

    Example:
        >>> of(jnp.bfloat16)
        dtype('float32')
    """
    wanted = jax.dtypes.canonicalize_dtype(dtype)
    return jnp.dtype(jnp.float64 if wanted == jnp.float64 else jnp.float32)
