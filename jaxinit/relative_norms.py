"""Norms of kernels as multiples of the default's: He's initialisation with fan-out.

Its taps are N(0, 2/(taps·c_out)), so that ‖w‖² is 2·c_in on average, whatever the size and the
number of output channels (He et al. 2015, equation 14).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

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

    Example:
        >>> kernel = at_relative_norm(jnp.ones((3, 3, 2, 8)), 3.0)
        >>> round(float(jnp.sum(kernel**2)), 3)
        36.0
    """
    return with_norm(kernel, relative_norm * default_norm(kernel.shape))


def with_norm(
    kernel: Float[Array, "... i o"],
    norm: float | Float[Array, ""],
    counted: Float[Array, "..."] | None = None,
) -> Float[Array, "... i o"]:
    """Scales a kernel to a norm; one of zeros stays so.

    In float32, or float64 where the kernel is, and by way of its largest tap, so that no square
    leaves the range of numbers.

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
    length = jnp.linalg.norm((part / largest).ravel())
    factor = jnp.asarray(norm, wide.dtype) / jnp.where(length > 0, length, jnp.ones_like(length))
    return wide / largest * factor
