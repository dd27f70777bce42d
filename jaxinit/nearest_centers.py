"""Each point's nearest centre, by sums of squared differences: exact wherever clusters lie.

‖c‖²/2 − x·c would need one operation a product instead of two, but cancels where centres are far
from each other or from 0; on the CPUs measured, it was no faster.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

# So many products of a centre's coordinate and a point's make one fused loop over the points:
# fewer read the points too often, more take long to compile.
_PRODUCTS = 128

# Points of more coordinates are compared with so many centres at once, so many coordinates at a
# time.
_LONG, _CENTERS, _COORDINATES = 64, 8, 16

_Best = tuple[Int32[Array, " m"], Float[Array, " m"]]


def nearest(points: Float[Array, "d m"], centers: Float[Array, "k d"]) -> _Best:
    """Finds each point's nearest centre, the first of equals, and the squared distance to it.

    A centre of infinite or overflowing distance is none's.
    """
    k, dimensions = centers.shape
    at_once = _CENTERS if dimensions > _LONG else max(1, _PRODUCTS // dimensions)
    chunks = math.ceil(k / at_once)
    size = math.ceil(k / chunks)
    best = (
        jnp.zeros(points.shape[1], jnp.int32),
        jnp.full(points.shape[1], jnp.inf, points.dtype),
    )
    if chunks == 1:
        return _closer(points, centers, jnp.int32(0), best)
    filling = ((0, chunks * size - k), (0, 0))
    filled = jnp.pad(centers, filling, constant_values=jnp.inf).reshape(chunks, size, dimensions)

    def closer(number: Array, best: _Best) -> _Best:
        return _closer(points, filled[number], number.astype(jnp.int32) * size, best)

    return jax.lax.fori_loop(0, chunks, closer, best)


def _closer(
    points: Float[Array, "d m"],
    centers: Float[Array, "c d"],
    first: Int32[Array, ""],
    best: _Best,
) -> _Best:
    labels, least = best
    for j, squares in enumerate(_squares(points, centers)):
        labels = jnp.where(squares < least, first + j, labels)
        least = jnp.minimum(squares, least)
    return labels, least


def _squares(
    points: Float[Array, "d m"], centers: Float[Array, "c d"]
) -> list[Float[Array, " m"]] | Float[Array, "c m"]:
    count, dimensions = centers.shape
    if dimensions <= _LONG:
        return [
            _sum([jnp.square(points[i] - centers[j, i]) for i in range(dimensions)])
            for j in range(count)
        ]

    def add(first: Array | int, many: int, total: Array) -> Array:
        xs = jax.lax.dynamic_slice_in_dim(points, first, many)
        cs = jax.lax.dynamic_slice_in_dim(centers, first, many, axis=1)
        terms = [jnp.square(xs[i][None] - cs[:, i, None]) for i in range(many)]
        return total + _sum(terms)

    whole, rest = divmod(dimensions, _COORDINATES)
    total = jax.lax.fori_loop(
        0,
        whole,
        lambda number, total: add(number * _COORDINATES, _COORDINATES, total),
        jnp.zeros((count, points.shape[1]), points.dtype),
    )
    return add(whole * _COORDINATES, rest, total) if rest else total


def _sum(terms: list[Array]) -> Array:
    return sum(terms[1:], terms[0])
