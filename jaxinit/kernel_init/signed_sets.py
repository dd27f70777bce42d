"""Output channels in pairs ±f: first each filter of a basis, then sets of it that are rotated."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinit.signatures import PRNGKey


def fill(key: PRNGKey, basis: Float[Array, "taps n"], outputs: int) -> Float[Array, "taps o"]:
    """Makes as many output channels as are asked for: +f₁, −f₁, +f₂, −f₂ … and then ±f·Q.

    Args:
        key: Draws the orthogonal matrices Q, one for each further set.
        basis: Filters as columns; fewer than taps only where no further set is needed.
        outputs: How many channels.

    Example:
        >>> fill(jax.random.key(0), jnp.eye(2), 3).tolist()
        [[1.0, -1.0, 0.0], [0.0, -0.0, 1.0]]
    """
    taps, count = basis.shape
    more = max(-(-outputs // (2 * count)) - 1, 0)
    rotations = jax.random.orthogonal(key, taps, (more,), basis.dtype)
    turned = (jnp.matmul(basis, q, precision=jax.lax.Precision.HIGHEST) for q in rotations)
    pairs = [jnp.stack([own, -own], axis=-1).reshape(taps, 2 * count) for own in (basis, *turned)]
    return jnp.concatenate(pairs, axis=1)[:, :outputs]
