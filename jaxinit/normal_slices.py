"""Slices drawn from the normal distribution that has the mean and covariance of given ones."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import flat_draws, kernels
from jaxinit.signatures import PRNGKey


def moments(
    slices: Float[Array, "n d"], share: Float[Array, " n"]
) -> tuple[Float[Array, " d"], Float[Array, "r d"]]:
    """The mean of a distribution over slices, and R such that RᵀR is its covariance.

    Args:
        slices: One row of taps a slice.
        share: The probability of each; they add up to 1.

    Example:
        >>> mean, root = moments(jnp.array([[1.0], [3.0]]), jnp.array([0.5, 0.5]))
        >>> float(mean[0]), round(float(jnp.square(root).sum()), 3)
        (2.0, 1.0)
    """
    mean = jnp.sum(share[:, None] * slices, axis=0)
    centred = (slices - mean[None]) * jnp.sqrt(share)[:, None]
    # centredᵀ·centred is the covariance: R of centred = QR has the same, without squaring anything.
    return mean, jnp.linalg.qr(centred, mode="r")


def draw(
    key: PRNGKey,
    slices: Float[Array, "n d"],
    share: Float[Array, " n"],
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> Float[Array, "... i o"]:
    """Draws a kernel each of whose slices is independently normal, with others' first two moments.

    Args:
        key: Draws it.
        slices: Those whose mean and covariance it has.
        share: The probability of each.
        shape: Of the kernel (spatial …, i, o); its taps are as many as a slice's.
        dtype: Of the result.
    """
    inputs, outputs = shape[-2:]
    mean, root = moments(slices, share)
    drawn = mean[None] + centred(key, root, inputs * outputs)
    return kernels.from_slices(drawn, shape).astype(dtype)


def centred(key: PRNGKey, root: Float[Array, "r d"], count: int) -> Float[Array, "n d"]:
    """Draws normal slices of mean 0.

    Args:
        key: Draws them.
        root: R such that RᵀR is their covariance.
        count: How many.

    Example:
        >>> centred(jax.random.key(0), jnp.ones((1, 4)), 3).shape
        (3, 4)
    """
    normal = flat_draws.shaped(jax.random.normal, key, (count, len(root)), root.dtype)
    return jnp.matmul(normal, root, precision=jax.lax.Precision.HIGHEST)
