"""Norms of kernels as multiples of the default's: He's initialisation with fan-out.

Its taps are N(0, 2/(taps·c_out)), so that ‖w‖² is 2·c_in on average, whatever the size and the
number of output channels (He et al. 2015, equation 14).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks
from jaxinit.models.modules import at_least_float32


def default_norm(shape: Sequence[int], share: float = 1.0) -> float:
    """The norm that a kernel of this shape (spatial …, i, o) has in the default start: √(2·i).

    Args:
        shape: Of the kernel.
        share: Of its taps, those that count: √(2·i·share).
    """
    return (2.0 * shape[-2]) ** 0.5 * share**0.5


def at_relative_norm(
    kernel: Float[Array, "... i o"], relative_norm: float
) -> Float[Array, "... i o"]:
    """Scales a kernel to a multiple of the default's norm; one of zeros stays so.

    Args:
        kernel: Of one layer (spatial …, i, o).
        relative_norm: ‖w‖ / √(2·i) of the result.

    Raises:
        ValueError: It is negative or not finite.

    Example:
        >>> kernel = at_relative_norm(jnp.ones((3, 3, 2, 8)), 3.0)
        >>> round(float(jnp.sum(kernel**2)), 3)
        36.0
    """
    checks.numbers(relative_norm=relative_norm)
    if checks.known(relative_norm) and not 0 <= float(relative_norm) < math.inf:
        raise ValueError(f"relative_norm={relative_norm} must be 0 or more: 1 is the default's")
    return with_norm(kernel, as_factor(relative_norm) * default_norm(kernel.shape))


def finished(
    kernel: Float[Array, "... i o"], relative_norm: float | None, dtype: DTypeLike
) -> Float[Array, "... i o"]:
    """Scales a kernel as `at_relative_norm`, or not where None is given, and casts it."""
    if relative_norm is not None:
        kernel = at_relative_norm(kernel, relative_norm)
    return kernel.astype(dtype)


def as_factor(number: Any) -> Any:
    """The number, of floating point where it is an array: JAX may be strict about dtypes."""
    if isinstance(number, jax.Array) and not jnp.issubdtype(number.dtype, jnp.floating):
        return number.astype(float)
    return number


def with_norm(
    kernel: Float[Array, "... i o"],
    norm: float | Float[Array, ""],
    counted: Float[Array, "..."] | None = None,
) -> Float[Array, "... i o"]:
    """Scales a kernel to a norm; one of zeros stays so.

    In float32, or float64 where the kernel is.

    Args:
        kernel: Of one layer.
        norm: Of the result.
        counted: The part of the kernel whose norm is meant; all of it where not given.

    Returns:
        The kernel, in the dtype of the arithmetic.
    """
    wide = at_least_float32(kernel)
    part = wide if counted is None else at_least_float32(counted)
    largest = jnp.max(jnp.abs(part), initial=0)
    largest = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    own = length(part / largest).reshape(())
    factor = jnp.asarray(norm, wide.dtype) / jnp.where(own > 0, own, jnp.ones_like(own))
    return wide / largest * factor


def length(values: Array, axis: int | tuple[int, ...] | None = None) -> Float[Array, "..."]:
    """The Euclidean norm over some axes, or all, which stay as axes of size 1.

    In float32, or float64 where the values are, and of values brought near 1 by a power of two,
    which rounds nothing: no square leaves the range of numbers.

    Example:
        >>> length(jnp.full((2, 8), 200, jnp.float16), axis=1).ravel()
        Array([565.6854, 565.6854], dtype=float32)
    """
    size = at_least_float32(jnp.abs(values))
    largest = jnp.max(size, axis=axis, keepdims=True, initial=0)
    _, exponent = jnp.frexp(largest)
    most = jnp.finfo(size.dtype).maxexp - 2
    scale = jnp.ldexp(jnp.ones_like(largest), jnp.clip(-exponent, -most, most))
    return jnp.sqrt(jnp.sum(jnp.square(size * scale), axis=axis, keepdims=True)) / scale


def unit(values: Array, axis: int) -> Float[Array, "..."]:
    """Scales vectors along an axis to length 1, in no less than float32; those of zeros stay so."""
    wide = at_least_float32(values)
    norms = length(wide, axis)
    return wide / jnp.where(norms > 0, norms, 1)
