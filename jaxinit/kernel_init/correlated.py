"""Gaussian slices whose taps are correlated, by formula: neighbours are alike."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, flat_draws, kernels, normal_slices, relative_norms
from jaxinit.kernel_init import filter_scale, working_precision
from jaxinit.signatures import Initializer, PRNGKey


def smooth(relative_norm: float = 1.0, length: float = 1.0) -> Initializer:
    """Makes kernels whose slices are drawn from a Gaussian process over the taps.

    Two taps at a distance of d pixels have the covariance exp(−d²/(2·length²)) (the squared
    exponential: Rasmussen and Williams 2006, equation 4.9), and slices are independent: smooth
    filters without any preferred pattern. Priors of correlated taps, with covariances estimated
    from trained networks, are those of Feinman and Lake (2019, "Learning a smooth kernel
    regularizer for convolutional neural networks"). Any number of spatial axes and any size; of one
    tap it is white.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.
        length: Over which taps are alike, in pixels: at 1 neighbours are correlated by 0.61, at 0.3
            by 0.004. The same for every size.

    Raises:
        ValueError: The length is not above 0.

    Example:
        >>> kernel = smooth(length=100.0)(jax.random.key(0), (3, 3, 2, 8))
        >>> bool(jnp.allclose(kernel, kernel[:1, :1], atol=0.05))  # each slice nearly one number
        True
    """
    checks.numbers(length=length)
    if not 0 < length < math.inf:
        raise ValueError(f"length={length} must be a distance in pixels above 0")

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape, rank=None)
        wide = working_precision.of(dtype)
        kernel = flat_draws.shaped(jax.random.normal, key, shape, wide)
        # The covariance is a product over the axes, and so is its root.
        for axis, side in enumerate(shape[:-2]):
            place = np.arange(side)
            between = (place[:, None] - place[None]) ** 2
            root = jnp.asarray(_root(np.exp(-between / (2 * length**2))), wide)
            moved = jnp.moveaxis(kernel, axis, -1)
            moved = jnp.matmul(moved, root, precision=jax.lax.Precision.HIGHEST)
            kernel = jnp.moveaxis(moved, -1, axis)
        return relative_norms.at_relative_norm(kernel, relative_norm).astype(dtype)

    return init


def closed_form_covariance(
    depth: float,
    relative_norm: float = 1.0,
    *,
    start: float = 1.0,
    slope: float = 3.0,
    curvature: float = 0.0,
) -> Initializer:
    """Makes kernels of independent Gaussian slices with the covariance of a layer's depth.

    The covariance is `covariance(size, σ)`, whose one parameter grows with depth d as
    σ(d) = start + slope·d + ½·curvature·d²: small and central first, wide later. After Trockman,
    Willmott and Kolter (2023, "Understanding the covariance structure of convolutional filters"),
    who build such a covariance, with such a schedule, for large depthwise convolutions. How the
    parts are put together, the scaling with size and the defaults are this library's own, so that
    what they report of theirs need not hold for this one.

    Args:
        depth: Of the layer, 0 for the first to 1 for the last; `jaxinit.initializers.closed_form`
            gives each layer its own.
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.
        start: σ(0), in squared pixels for a kernel of 7 taps a side; times (side/7)² for others,
            where side is the geometric mean of the sides that have more than one tap.
        slope: How fast it grows, in the same units.
        curvature: How fast that grows, likewise.

    Raises:
        ValueError: A depth that is none, or a σ that is not above 0.

    Example:
        >>> kernel = closed_form_covariance(0.5)(jax.random.key(0), (7, 7, 1, 16))
        >>> round(float(jnp.sum(kernel**2)), 3)
        2.0
    """
    checks.numbers(depth=depth, start=start, slope=slope, curvature=curvature)
    if not 0 <= depth <= 1:
        raise ValueError(f"depth={depth} is out of range: say 0.0 (first layer) to 1.0 (last)")
    sigma = start + slope * depth + curvature * depth**2 / 2
    if not 0 < sigma < math.inf:
        raise ValueError(
            f"start={start}, slope={slope} and curvature={curvature} give σ={sigma} at depth "
            f"{depth}: it must be above 0"
        )

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape, rank=None)
        *size, inputs, outputs = shape
        wide = working_precision.of(dtype)
        scale = filter_scale.of(size)
        root = jnp.asarray(_root(covariance(size, sigma * scale**2)), wide)
        slices = normal_slices.centred(key, root, inputs * outputs)
        kernel = kernels.from_slices(slices, tuple(shape))
        return relative_norms.at_relative_norm(kernel, relative_norm).astype(dtype)

    return init


def covariance(size: Sequence[int], sigma: float) -> Float[np.ndarray, "d d"]:
    """The covariance of a slice's taps in closed form, in float64.

    With z(p) = exp(−|p|²/(2σ)) of a tap's place p, in pixels from the kernel's centre, taps at p
    and q have the covariance √(z(p)·z(q))·z(p − q) − ½·z(p)·z(q): a bump that moves with the tap,
    less of it towards the edge, and half of one that stays at the centre taken off (after Trockman,
    Willmott and Kolter 2023). So made, it is positive semi-definite for up to four spatial axes
    without being projected.

    Args:
        size: Taps along each spatial axis. Rows and columns run as its indices do, the last
            fastest.
        sigma: σ, in squared pixels, above 0.

    Example:
        >>> covariance((1, 3), 0.5).round(3)
        array([[ 0.3  ,  0.039, -0.061],
               [ 0.039,  0.5  ,  0.039],
               [-0.061,  0.039,  0.3  ]])
    """
    axes = [np.arange(side) - (side - 1) / 2 for side in size]
    places = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    between = np.sum((places[:, None] - places[None]) ** 2, axis=2)
    central = np.exp(-np.sum(places**2, axis=1) / (2 * sigma))
    both = central[:, None] * central[None]
    return np.sqrt(both) * np.exp(-between / (2 * sigma)) - both / 2


def _root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
