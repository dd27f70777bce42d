"""Random arrays drawn in a row and then shaped: the same numbers, compiled many times faster.

On a CPU XLA unrolls loops over short axes, each time with all rounds of the generator. To compile
a normal kernel of 3×3×8×16 took seven seconds of processor time, and a row of as many numbers 0.4.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxinit.signatures import PRNGKey


def shaped(
    draw: Callable[..., Array], key: PRNGKey, shape: Sequence[int], *arguments: object
) -> Shaped[Array, "..."]:
    """Draws an array whose numbers are independent.

    Args:
        draw: A function of `jax.random`, called with a key, a shape and the arguments.
        key: Draws it.
        shape: Of the array.
        arguments: What follows the shape.

    Example:
        >>> key = jax.random.key(0)
        >>> kernel = shaped(jax.random.normal, key, (3, 3, 2, 4), jnp.float32)
        >>> bool(jnp.array_equal(kernel, jax.random.normal(key, (3, 3, 2, 4))))
        True
    """
    return draw(key, (math.prod(shape),), *arguments).reshape(tuple(shape))


def variance_scaling(
    scale: float,
    mode: Literal["fan_in", "fan_out", "fan_avg"],
    distribution: Literal["truncated_normal", "normal", "uniform"],
) -> jax.nn.initializers.Initializer:
    """Kernels of variance scale/fan, as `jax.nn.initializers.variance_scaling` draws them.

    Args:
        scale: The variance, times the fan.
        mode: Which fan of a kernel (spatial …, in, out): taps·in, taps·out, or their mean.
        distribution: Of each tap.

    Raises:
        ValueError: The shape has fewer than two sides (when called).
    """

    def init(key: PRNGKey, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        if out_sharding is not None:
            whole = jax.nn.initializers.variance_scaling(scale, mode, distribution)
            return whole(key, shape, dtype, out_sharding=out_sharding)
        if len(shape) < 2:
            raise ValueError(
                f"a kernel of shape {tuple(shape)} has no fan: it needs input and output channels"
            )
        *size, inputs, outputs = shape
        fan_in, fan_out = math.prod(size) * inputs, math.prod(size) * outputs
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        # Of an array that is one batch the fan is 1.
        row = jax.nn.initializers.variance_scaling(
            scale / fan, "fan_in", distribution, in_axis=(), out_axis=(), batch_axis=(0, 1)
        )
        return row(key, (math.prod(shape), 1), dtype).reshape(tuple(shape))

    return init
