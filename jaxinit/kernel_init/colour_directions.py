"""Colours of filters: how a filter that is one pattern of taps weighs its input channels."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks
from jaxinit.signatures import PRNGKey


def check_shares(grey: float, opponent: float) -> None:
    """Refuses shares that are no shares.

    Raises:
        ValueError: One is below 0, or both together are above 1.
    """
    checks.numbers(grey=grey, opponent=opponent)
    if not (grey >= 0 and opponent >= 0 and grey + opponent <= 1 + 1e-9):
        raise ValueError(
            f"grey={grey} and opponent={opponent} must be shares of the filters: neither below 0, "
            "and both together at most 1"
        )


def draw(
    key: PRNGKey,
    inputs: int,
    outputs: int,
    grey: float,
    opponent: float,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "i o"]:
    """Draws for each filter a unit vector of weights over the input channels.

    The first round(grey·o) filters are grey: all weights are 1/√i. Those up to
    round((grey + opponent)·o) are opponent colours, as red against green: uniform among the unit
    vectors whose weights sum to zero. The others are uniform among all unit vectors. Then the
    filters are put into random order. With one channel all filters are grey.

    Args:
        key: Chooses the directions and the order.
        inputs: Number of input channels.
        outputs: Number of filters.
        grey: Share of grey filters, 0 to 1.
        opponent: Share of opponent filters, 0 to 1 − grey.
        dtype: float32 or float64.
    """
    if inputs == 1 or round(grey * outputs) == outputs:
        return jnp.full((inputs, outputs), inputs**-0.5, dtype)
    order_key, direction_key = jax.random.split(key)
    place = jax.random.permutation(order_key, outputs)[None]
    anywhere = jax.random.normal(direction_key, (inputs, outputs), dtype)
    zero_sum = anywhere - jnp.mean(anywhere, axis=0, keepdims=True)
    chosen = jnp.where(place < round((grey + opponent) * outputs), zero_sum, anywhere)
    chosen = jnp.where(place < round(grey * outputs), jnp.ones_like(chosen), chosen)
    return chosen / jnp.linalg.norm(chosen, axis=0, keepdims=True)
