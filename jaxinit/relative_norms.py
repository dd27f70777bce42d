"""Norms of kernels as multiples of the default's: He's initialisation with fan-out.

Its taps are N(0, 2/(taps·c_out)), so that ‖w‖² is 2·c_in on average, whatever the size and the
number of output channels (He et al. 2015, equation 14).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def default_norm(shape: Sequence[int]) -> float:
    """The norm that a kernel of this shape (spatial …, i, o) has in the default start: √(2·i)."""
    return (2.0 * shape[-2]) ** 0.5


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
    norm = jnp.linalg.norm(kernel.ravel())
    wanted = relative_norm * default_norm(kernel.shape)
    return kernel * (wanted / jnp.where(norm > 0, norm, 1)).astype(kernel.dtype)
