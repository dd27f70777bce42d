"""What the slices of a layer have in common: their norm, variance entropy and sparsity.

The last two after Gavrikov and Keuper, *CNN Filter DB: An Empirical Investigation of Trained
Convolutional Filters*, CVPR 2022, and the authors' program, torchconvquality.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinit import checks

_NEAR_ZERO = 0.01  # of the layer's largest |tap|

# T_H of the authors' program: height, midpoint (of log₂ n), slope, offset.
_HEIGHT, _MIDPOINT, _SLOPE, _OFFSET = 1.2618047, 2.30436435, 0.88767525, -0.31050834
_FITTED_TAPS = 9
_LEAST_SLICES = 3  # of fewer the variance entropy is 0 whatever they are


class SliceStatistics(NamedTuple):
    """What `statistics` returns.

    Attributes:
        norm: √(mean of ‖slice‖²), in the units of the taps.
        variance_entropy: See `variance_entropy`.
        sparsity: See `sparsity`.
    """

    norm: Float[Array, ""]
    variance_entropy: Float[Array, ""]
    sparsity: Float[Array, ""]


def statistics(
    slices: Float[Array, "n d"], shares: Float[Array, " n"] | None = None
) -> SliceStatistics:
    """Measures the slices of one layer, in float32, or float64 where they are.

    Args:
        slices: A row of taps each (`jaxinit.kernels.to_slices`).
        shares: How often each counts, as a bank's are drawn; all alike where not given. Need not
            sum to 1.

    Returns:
        Numbers that are NaN where a slice is not finite.
    """
    checks.array("slices", slices, 2)
    if shares is not None:
        checks.array("shares", shares, 1)
        if shares.shape[0] != slices.shape[0]:
            raise ValueError(
                f"shares of shape {shares.shape} do not give each of {slices.shape[0]} slices one"
            )
    if not slices.shape[0] or not slices.shape[1]:
        raise ValueError(f"slices of shape {slices.shape} hold nothing to measure")
    # Ones are handed over, too: XLA would take seconds to compute with as many constants.
    return _measured(slices, jnp.ones(len(slices), jnp.float32) if shares is None else shares)


@jax.jit
def _measured(slices: Float[Array, "n d"], shares: Float[Array, " n"]) -> SliceStatistics:
    slices = slices if slices.dtype == jnp.float64 else slices.astype(jnp.float32)
    counts = shares.astype(slices.dtype)
    counts = counts / jnp.sum(counts)
    largest = jnp.max(jnp.where(counts[:, None] > 0, jnp.abs(slices), 0))
    # Squares of what is at most 1 do not overflow, and do not all vanish.
    scaled = slices / jnp.where(largest > 0, largest, 1)
    norm = largest * jnp.sqrt(jnp.sum(counts * jnp.sum(jnp.square(scaled), axis=1)))
    near_zero = jnp.all(jnp.abs(scaled) < _NEAR_ZERO, axis=1)
    share = jnp.sum(jnp.where(near_zero, counts, 0))
    share = jnp.where(jnp.isfinite(largest), share, jnp.nan)
    return SliceStatistics(norm, _entropy(scaled, counts), share)


def _entropy(slices: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, ""]:
    # One slice is taken off before the mean, so that equal ones leave exact zeros.
    shifted = slices - slices[jnp.argmax(shares)][None]
    centred = shifted - jnp.sum(shares[:, None] * shifted, axis=0)[None]
    rows = centred * jnp.sqrt(shares)[:, None]
    # The squared singular values of the rows, by way of their d×d products.
    squares = jnp.linalg.eigvalsh(jnp.matmul(rows.T, rows, precision=jax.lax.Precision.HIGHEST))
    squares = jnp.maximum(squares, 0)
    total = jnp.sum(squares)
    ratios = squares / jnp.where(total > 0, total, 1)
    return jnp.abs(jnp.sum(ratios * jnp.log10(jnp.where(ratios > 0, ratios, 1))))


def variance_entropy(
    slices: Float[Array, "n d"], shares: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """How evenly the variance of a layer's slices spreads over its principal axes.

    H = −Σ v·log₁₀ v with v = s²/Σs², s being the singular values of the slices without their mean
    (Gavrikov and Keuper 2022): 0 where all slices lie on one line, log₁₀ d where no direction is
    preferred. 0 for slices that are all equal.

    Args:
        slices: A row of taps each.
        shares: How often each counts; all alike where not given.

    Example:
        >>> round(float(variance_entropy(jnp.eye(3) * 2.0)), 4)  # two axes of equal variance
        0.301
    """
    return statistics(slices, shares).variance_entropy


def sparsity(
    slices: Float[Array, "n d"], shares: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """The share of a layer's slices that are next to nothing, 0 to 1.

    Those all of whose taps are, in absolute value, below 1 % of the layer's largest (Gavrikov and
    Keuper 2022).
    1 for a layer of zeros.

    Args:
        slices: A row of taps each.
        shares: How often each counts; all alike where not given.

    Example:
        >>> float(sparsity(jnp.array([[1.0, 0.0], [0.001, -0.002]])))
        0.5
    """
    return statistics(slices, shares).sparsity


def random_entropy(count: int | float, taps: int) -> float | None:
    """The variance entropy from which on slices cannot be told from random ones.

    T_H(n) = 1.26 / (1 + exp(−0.89·(log₂ n − 2.30))) − 0.31, fitted by Gavrikov and Keuper (2022) to
    the least that layers of n normally distributed 3×3 slices have.

    Args:
        count: n, the number of slices; may be infinite.
        taps: Of each slice.

    Returns:
        None for other sizes than 9 taps, for which nobody fitted it, and for fewer than 3 slices.

    Example:
        >>> round(random_entropy(64 * 64, taps=9), 3)
        0.951
    """
    checks.numbers(count=count)
    checks.whole(taps=taps)
    if taps != _FITTED_TAPS or count < _LEAST_SLICES:
        return None
    return _HEIGHT / (1 + math.exp(-_SLOPE * (math.log2(count) - _MIDPOINT))) + _OFFSET
