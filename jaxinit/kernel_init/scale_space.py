"""Gaussians of random width and their differences and derivatives, as early vision has them.

Coordinates are in pixels from the kernel's centre, (size − 1)/2 along each axis, so that even sizes
are centred between taps. Every filter sums to zero over its taps, has one norm, and is one pattern
of taps for all input channels, weighted by a colour (`colour_directions`).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, kernels, relative_norms
from jaxinit.kernel_init import colour_directions, filter_scale, working_precision
from jaxinit.signatures import Initializer, PRNGKey

_RATIO = 1.6  # of the surround's width to the centre's


def difference_of_gaussians(
    relative_norm: float = 1.0,
    *,
    sigma: tuple[float, float] = (0.6, 1.4),
    grey: float = 1.0,
    opponent: float = 0.0,
) -> Initializer:
    """Makes kernels of centre-surround filters: a Gaussian minus a wider one.

    ±(g(σ) − g(1.6·σ)), where g(σ) = exp(−r²/(2σ²)) over its sum over the taps, so that each filter
    sums to zero. At the ratio 1.6 it is close to the Laplacian of a Gaussian (Marr and Hildreth
    1980, "Theory of edge detection"). Any number of spatial axes.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.
        sigma: Range from which each filter draws σ uniformly, in pixels for a kernel of 7 taps a
            side; times side/7 for others, where side is the geometric mean of the sides that have
            more than one tap.
        grey: Share of the filters with equal weights for all input channels.
        opponent: Share of those with random weights that sum to zero; the rest has random weights.

    Raises:
        ValueError: σ or a share out of range; when called, a kernel without 3 taps along any axis,
            all of whose taps are equally far from the centre.

    Example:
        >>> kernel = difference_of_gaussians()(jax.random.key(0), (5, 5, 3, 8))
        >>> bool(jnp.all(jnp.abs(jnp.sum(kernel, (0, 1))) < 1e-5))
        True
    """
    _check(sigma, grey, opponent)

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        size = _size(shape, 3, "a difference of Gaussians")
        wide, outputs = working_precision.of(dtype), shape[-1]
        width_key, sign_key, colour_key = jax.random.split(key, 3)
        width = _widths(width_key, size, outputs, sigma, wide)
        distance = jnp.sum(_places(size, wide) ** 2, axis=1, keepdims=True)
        centre, surround = (_unit_sum(distance, width * ratio) for ratio in (1.0, _RATIO))
        sign = jax.random.rademacher(sign_key, (1, outputs), wide)
        filters = sign * (centre - surround)
        return _coloured(colour_key, filters, shape, grey, opponent, relative_norm).astype(dtype)

    return init


def gaussian_derivatives(
    relative_norm: float = 1.0,
    orders: Sequence[int] = (1, 2),
    *,
    sigma: tuple[float, float] = (1.0, 2.0),
    grey: float = 1.0,
    opponent: float = 0.0,
) -> Initializer:
    """Makes kernels of derivatives of Gaussians, each in a random direction.

    ±He_n(u/σ)·exp(−r²/(2σ²)), where u is the distance along the direction and He_n the Hermite
    polynomial of order n: He₁(t) = t, He₂(t) = t² − 1. They are steerable: the first derivative
    along θ is cos θ·G_x + sin θ·G_y (Freeman and Adelson 1991, "The design and use of steerable
    filters"). What the taps of a filter of even order sum to is taken off as a multiple of the
    Gaussian itself, which leaves them steerable and zero in sum. Directions are uniform, orders as
    equally frequent as the number of filters allows. Any number of spatial axes.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.
        orders: Of the derivatives, 1 or more each.
        sigma: Range from which each filter draws σ uniformly, in pixels for a kernel of 7 taps a
            side; times side/7 for others, where side is the geometric mean of the sides that have
            more than one tap.
        grey: Share of the filters with equal weights for all input channels.
        opponent: Share of those with random weights that sum to zero; the rest has random weights.

    Raises:
        ValueError: σ, a share or an order out of range; when called, a kernel that has not more
            taps along any axis than the highest order.

    Example:
        >>> kernel = gaussian_derivatives(orders=(1,))(jax.random.key(0), (5, 5, 3, 8))
        >>> bool(jnp.allclose(kernel, -kernel[::-1, ::-1], atol=1e-6))
        True
    """
    _check(sigma, grey, opponent)
    checks.kind("orders", orders, tuple | list, "a list of whole numbers")
    checks.whole(**{f"orders[{place}]": order for place, order in enumerate(orders)})
    orders = tuple(orders)
    if not orders or min(orders) < 1:
        raise ValueError(f"orders={orders} must be one or more derivatives, of order 1 or more")

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        size = _size(shape, max(orders) + 1, f"a derivative of order {max(orders)}")
        wide, outputs = working_precision.of(dtype), shape[-1]
        width_key, direction_key, order_key, sign_key, colour_key = jax.random.split(key, 5)
        width = _widths(width_key, size, outputs, sigma, wide)
        places = _places(size, wide)
        direction = jax.random.normal(direction_key, (len(size), outputs), wide)
        # Along an axis of one tap there is nothing to derive.
        direction = direction * jnp.asarray([[side > 1] for side in size], wide)
        direction = direction / jnp.linalg.norm(direction, axis=0, keepdims=True)
        along = jnp.matmul(places, direction, precision=jax.lax.Precision.HIGHEST) / width
        gaussian = _unit_sum(jnp.sum(places**2, axis=1, keepdims=True), width)
        which = jax.random.permutation(order_key, outputs)[None] % len(orders)
        chosen = jnp.zeros_like(along)
        for number, order in enumerate(orders):
            chosen = jnp.where(which == number, _hermite(order, along), chosen)
        filters = chosen * gaussian
        filters = filters - jnp.sum(filters, axis=0, keepdims=True) * gaussian
        filters = jax.random.rademacher(sign_key, (1, outputs), wide) * filters
        return _coloured(colour_key, filters, shape, grey, opponent, relative_norm).astype(dtype)

    return init


def _check(sigma: tuple[float, float], grey: float, opponent: float) -> None:
    checks.kind("sigma", sigma, tuple | list, "a pair of widths")
    checks.numbers(**{f"sigma[{place}]": width for place, width in enumerate(sigma)})
    if len(sigma) != 2 or not 0 < sigma[0] <= sigma[1] < math.inf:
        raise ValueError(f"sigma={sigma} must be a range of widths above 0, the lower one first")
    colour_directions.check_shares(grey, opponent)


def _size(shape: Sequence[int], taps: int, what: str) -> tuple[int, ...]:
    """The spatial sides, one of which has so many taps at least."""
    kernels.check_channels_last(shape, rank=None)
    size = tuple(shape[:-2])
    if max(size) < taps:
        raise ValueError(
            f"a kernel of {kernels.sides(size)} is too small for {what}: choose layers with "
            f"{taps} taps or more along an axis"
        )
    return size


def _places(size: Sequence[int], dtype: DTypeLike) -> Float[Array, "d n"]:
    """The coordinates of each tap, from the centre."""
    axes = [jnp.arange(side, dtype=dtype) - (side - 1) / 2 for side in size]
    grids = jnp.meshgrid(*axes, indexing="ij")
    return jnp.stack([grid.ravel() for grid in grids], axis=1)


def _widths(
    key: PRNGKey,
    size: Sequence[int],
    outputs: int,
    sigma: tuple[float, float],
    dtype: DTypeLike,
) -> Float[Array, "1 o"]:
    scale = filter_scale.of(size)
    low, high = sigma
    return jax.random.uniform(key, (1, outputs), dtype, low * scale, high * scale)


def _unit_sum(distance: Float[Array, "d 1"], width: Float[Array, "1 o"]) -> Float[Array, "d o"]:
    """Gaussians at squared distances from the centre, each over its sum."""
    # The taps nearest to the centre are 1, so that no width however small leaves nothing.
    gaussian = jnp.exp((jnp.min(distance) - distance) / (2 * width**2))
    return gaussian / jnp.sum(gaussian, axis=0, keepdims=True)


def _hermite(order: int, t: Float[Array, "d o"]) -> Float[Array, "d o"]:
    """He_n by its recurrence, He_{n+1}(t) = t·He_n(t) − n·He_{n−1}(t)."""
    before, now = jnp.zeros_like(t), jnp.ones_like(t)
    for number in range(order):
        before, now = now, t * now - number * before
    return now


def _coloured(
    key: PRNGKey,
    filters: Float[Array, "d o"],
    shape: Sequence[int],
    grey: float,
    opponent: float,
    relative_norm: float,
) -> Float[Array, "... i o"]:
    """Makes a kernel of one pattern of taps a filter, all of one norm."""
    norms = jnp.linalg.norm(filters, axis=0, keepdims=True)
    filters = filters / jnp.where(norms > 0, norms, 1)
    colours = colour_directions.draw(key, shape[-2], shape[-1], grey, opponent, filters.dtype)
    kernel = (filters[:, None] * colours[None]).reshape(tuple(shape))
    return relative_norms.at_relative_norm(kernel, relative_norm)
