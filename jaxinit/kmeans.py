"""k-means inside XLA, over millions of points: what the paper clusters its filters with.

The points are cut into blocks that are scanned one after the other, so that beside one copy of the
points (transposed: an operation over a block then runs along its points) and one number a point,
memory holds a few blocks only.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Num

from jaxinit.types import PRNGKey

# Measured on two CPU cores with 2.6 million points of 9 dimensions: below this the start of each
# operation shows, above it a block leaves the cache.
_BLOCK = 65_536

# Up to this many products of a centre's coordinate and a point's, one fused loop over the points
# beats a matrix product and a search; beyond it, compilation takes too long.
_UNROLLED_PRODUCTS = 512

Points = Float[Array | np.ndarray, "n d"]
Weights = Num[Array | np.ndarray, " n"]


class KMeansResult(NamedTuple):
    """What `fit` found.

    Attributes:
        centers: One row a cluster.
        labels: The number of each point's nearest centre.
        sizes: The total weight of each cluster's points. 0 only where there are fewer different
            points than clusters; the centre is then a copy of another.
        inertia: Σ weight · (distance to the nearest centre)².
        iterations: How many steps of Lloyd's algorithm the best restart took.
    """

    centers: Float[Array, "*b k d"]
    labels: Int32[Array, "*b n"]
    sizes: Float[Array, "*b k"]
    inertia: Float[Array, "*b"]
    iterations: Int[Array, "*b"]


class _Blocks(NamedTuple):
    points: Float[Array, "b d m"]  # the last block is filled up with rows
    weights: Float[Array, "b m"]  # of weight 0


class _Lloyd(NamedTuple):
    centers: Float[Array, "k d"]
    shift: Float[Array, ""]  # Σ (squared movement of the centres in the last step)
    iterations: Int[Array, ""]


class _Farthest(NamedTuple):
    distances: Float[Array, " k"]  # squared, falling; −1 where there are fewer points
    points: Float[Array, "d k"]
    weights: Float[Array, " k"]
    labels: Int32[Array, " k"]


def fit(
    key: PRNGKey,
    points: Points,
    k: int,
    *,
    weights: Weights | None = None,
    centers: Points | None = None,
    restarts: int = 1,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
) -> KMeansResult:
    """Finds k centres that minimise the inertia Σᵢ wᵢ·minⱼ ‖xᵢ − cⱼ‖².

    Each restart seeds by greedy k-means++ (2 + ⌊ln k⌋ candidates a centre), then repeats Lloyd's
    step until the centres have settled; the restart of least inertia is kept. A cluster that loses
    all its points moves to the point that is farthest from its own centre, and several such
    clusters to as many farthest points, as in scikit-learn. Distances are compared by
    ‖c‖²/2 − x·c around the mean of the data, against cancellation; the inertia is a sum of exact
    differences. Can be jitted, and vmapped over keys; values are then not checked.

    Args:
        key: Chooses the seeds; the same key gives the same result.
        points: One row a point; less than 32 bits are widened to float32.
        k: Number of clusters. Static.
        weights: How many times each point counts, at least 0; None means once.
        centers: k rows to start every restart from, instead of seeding.
        restarts: How many seeds to start from, one after the other. Static.
        max_iterations: Most steps of Lloyd's algorithm of one restart. Static.
        tolerance: Stop once the summed squared movement of the centres is at most this part of the
            mean variance of the coordinates; 0 runs until nothing moves. Static.

    Returns:
        Centres, labels, sizes, inertia and iterations of the best restart.

    Raises:
        ValueError: k is below 1 or above the number of points (of positive weight); points or
            weights are not finite; weights are negative; a shape does not fit.

    Source: Lloyd 1982; Arthur & Vassilvitskii 2007, section 4 for the greedy seeding.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> points = jnp.array([[0.0], [1.0], [10.0], [11.0]])
        >>> float(fit(jax.random.key(0), points, 2).inertia)
        1.0
    """
    _check(points, weights, k, restarts, max_iterations)
    if centers is not None and centers.shape != (k, points.shape[1]):
        raise ValueError(f"centers of shape {centers.shape} should be {(k, points.shape[1])}")
    points = jnp.asarray(points, _wide(points))
    if weights is None:
        weights = jnp.ones(points.shape[0], points.dtype)
    return _fit(
        key,
        points,
        jnp.asarray(weights, points.dtype),
        None if centers is None else jnp.asarray(centers, points.dtype),
        k=k,
        restarts=restarts,
        max_iterations=max_iterations,
        tolerance=tolerance,
    )


@jax.jit
def assign(points: Points, centers: Points) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
    """Finds each point's nearest centre, block by block.

    Args:
        points: One row a point.
        centers: One row a centre.

    Returns:
        The number of the nearest centre (the lowest of equals), and the squared distance to it.
    """
    points = jnp.asarray(points, _wide(points))
    centers = jnp.asarray(centers, points.dtype)
    blocks = _cut(points, jnp.ones(points.shape[0], points.dtype))
    middle = centers.mean(0)
    labels, distances = _assign(_shift(blocks, middle), centers - middle[None])
    return labels.reshape(-1)[: points.shape[0]], distances.reshape(-1)[: points.shape[0]]


def _wide(points: Points) -> jnp.dtype:
    return jnp.promote_types(points.dtype, jnp.float32)


def _check(
    points: Points, weights: Weights | None, k: int, restarts: int, max_iterations: int
) -> None:
    count = points.shape[0]
    if k < 1:
        raise ValueError(f"k={k} clusters cannot be made: ask for 1 or more")
    if k > count:
        raise ValueError(f"k={k} clusters need at least {k} points, but there are only {count}")
    if restarts < 1 or max_iterations < 1:
        raise ValueError(
            f"restarts={restarts} and max_iterations={max_iterations} must both be 1 or more"
        )
    if weights is not None and weights.shape != (count,):
        raise ValueError(f"weights of shape {weights.shape} do not give each of {count} points one")
    if not isinstance(points, jax.core.Tracer) and not bool(jnp.isfinite(points).all()):
        raise ValueError("points hold numbers that are not finite (NaN or ∞): remove them first")
    if weights is None or isinstance(weights, jax.core.Tracer):
        return
    values = np.asarray(weights)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("weights must be finite and not negative")
    if k > (positive := int((values > 0).sum())):
        raise ValueError(f"k={k} clusters need {k} points of positive weight, not {positive}")


@functools.partial(jax.jit, static_argnames=("k", "restarts", "max_iterations", "tolerance"))
def _fit(
    key: PRNGKey,
    points: Float[Array, "n d"],
    weights: Float[Array, " n"],
    start: Float[Array, "k d"] | None,
    *,
    k: int,
    restarts: int,
    max_iterations: int,
    tolerance: float,
) -> KMeansResult:
    blocks = _cut(points, weights)
    total = blocks.weights.sum(1).sum()
    mean = (blocks.points * blocks.weights[:, None]).sum(2).sum(0) / total
    blocks = _shift(blocks, mean)
    squares = (jnp.square(blocks.points) * blocks.weights[:, None]).sum(2).sum(0)
    threshold = tolerance * jnp.mean(squares / total)

    def restart(restart_key: PRNGKey) -> tuple[_Lloyd, Float[Array, ""]]:
        seeds = _seed(restart_key, blocks, k) if start is None else start - mean[None]
        found = _lloyd(blocks, seeds, threshold, max_iterations)
        _, distances = _assign(blocks, found.centers)
        return found, (blocks.weights * distances).sum(1).sum()

    found, inertias = jax.lax.map(restart, jax.random.split(key, restarts))
    best = jnp.argmin(inertias)
    centers, iterations = found.centers[best], found.iterations[best]
    labels, _ = _assign(blocks, centers)
    sizes = jax.lax.map(lambda xs: _totals(xs[0], xs[1], k)[1], (blocks, labels)).sum(0)
    labels = labels.reshape(-1)[: points.shape[0]]
    return KMeansResult(centers + mean[None], labels, sizes, inertias[best], iterations)


def _cut(points: Float[Array, "n d"], weights: Float[Array, " n"]) -> _Blocks:
    count, dimensions = points.shape
    size = min(_BLOCK, count + count % 2)  # even, as `_totals` halves it
    blocks = -(-count // size)
    fill = blocks * size - count
    rows = jnp.pad(points, ((0, fill), (0, 0))).reshape(blocks, size, dimensions)
    return _Blocks(rows.transpose(0, 2, 1), jnp.pad(weights, (0, fill)).reshape(blocks, size))


def _shift(blocks: _Blocks, mean: Float[Array, " d"]) -> _Blocks:
    return blocks._replace(points=blocks.points - mean[None, :, None])


def _nearest(points: Float[Array, "d m"], centers: Float[Array, "k d"]) -> Int32[Array, " m"]:
    count, dimensions = centers.shape
    halves = jnp.square(centers).sum(1) / 2
    if count * dimensions > _UNROLLED_PRODUCTS:
        products = jnp.matmul(centers, points, precision=jax.lax.Precision.HIGHEST)
        return jnp.argmin(halves[:, None] - products, axis=0).astype(jnp.int32)
    labels = jnp.zeros(points.shape[1], jnp.int32)
    least = jnp.full(points.shape[1], jnp.inf, points.dtype)
    for j in range(count):
        score = halves[j] - sum(centers[j, i] * points[i] for i in range(dimensions))
        labels = jnp.where(score < least, j, labels)
        least = jnp.minimum(score, least)
    return labels


def _distances(
    points: Float[Array, "d m"], centers: Float[Array, "k d"], labels: Int32[Array, " m"]
) -> Float[Array, " m"]:
    return jnp.square(points - centers.T[:, labels]).sum(0)


def _assign(
    blocks: _Blocks, centers: Float[Array, "k d"]
) -> tuple[Int32[Array, "b m"], Float[Array, "b m"]]:
    def body(points: Float[Array, "d m"]) -> tuple[Array, Array]:
        labels = _nearest(points, centers)
        return labels, _distances(points, centers, labels)

    return jax.lax.map(body, blocks.points)


def _totals(
    block: _Blocks, labels: Int32[Array, " m"], k: int
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Sums the weighted points, and the weights, of each cluster in one block."""

    def scattered(points: Array, weights: Array, labels: Array) -> tuple[Array, Array]:
        # A scatter runs on one core: two of them, on two.
        half = labels.shape[0] // 2
        parts = [slice(0, half), slice(half, None)]
        add = functools.partial(
            jax.ops.segment_sum, num_segments=k, mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
        )
        sums = [add((points[:, p] * weights[None, p]).T, labels[p]) for p in parts]
        masses = [add(weights[p], labels[p]) for p in parts]
        return sums[0] + sums[1], masses[0] + masses[1]

    def multiplied(points: Array, weights: Array, labels: Array) -> tuple[Array, Array]:
        # Elsewhere a scatter to k rows queues at each, and adds in no fixed order.
        members = jnp.where(labels[None] == jnp.arange(k)[:, None], weights[None], 0)
        sums = jnp.matmul(members, points.T, precision=jax.lax.Precision.HIGHEST)
        return sums, members.sum(1)

    return jax.lax.platform_dependent(
        block.points, block.weights, labels, cpu=scattered, default=multiplied
    )


def _lloyd(
    blocks: _Blocks, centers: Float[Array, "k d"], threshold: Float[Array, ""], max_iterations: int
) -> _Lloyd:
    def unsettled(state: _Lloyd) -> Array:
        return (state.shift > threshold) & (state.iterations < max_iterations)

    def step(state: _Lloyd) -> _Lloyd:
        centers = _step(blocks, state.centers)
        return _Lloyd(centers, jnp.square(centers - state.centers).sum(), state.iterations + 1)

    start = _Lloyd(centers, jnp.array(jnp.inf, centers.dtype), jnp.array(0))
    return jax.lax.while_loop(unsettled, step, start)


def _step(blocks: _Blocks, centers: Float[Array, "k d"]) -> Float[Array, "k d"]:
    k = centers.shape[0]

    def add(carry: tuple[Array, Array], block: _Blocks) -> tuple[tuple[Array, Array], None]:
        sums, masses = _totals(block, _nearest(block.points, centers), k)
        return (carry[0] + sums, carry[1] + masses), None

    start = (jnp.zeros_like(centers), jnp.zeros(k, centers.dtype))
    (sums, masses), _ = jax.lax.scan(add, start, blocks)
    sums, masses = jax.lax.cond(
        (masses == 0).any(),
        functools.partial(_relocate, blocks, centers),
        lambda sums, masses: (sums, masses),
        sums,
        masses,
    )
    return jnp.where((masses > 0)[:, None], sums / jnp.maximum(masses, 1e-30)[:, None], centers)


def _relocate(
    blocks: _Blocks, centers: Float[Array, "k d"], sums: Float[Array, "k d"], masses: Array
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Gives each empty cluster one of the points farthest from their centres."""
    k = centers.shape[0]
    far = _farthest(blocks, centers)
    empty = masses == 0
    rank = jnp.cumsum(empty) - 1  # which of the farthest points an empty cluster gets
    # A point that lies on its centre is no use: then there are fewer different points than k.
    used = (jnp.arange(k) < empty.sum()) & (far.distances > 0)
    moved = jnp.where(used, far.weights, 0)
    rest = masses - jax.ops.segment_sum(moved, far.labels, k)
    # A donor left with rounding errors alone had this one point: it stays where it was.
    rest = jnp.where(rest > 1e-6 * masses, rest, 0)
    left = sums - jax.ops.segment_sum((far.points * moved[None]).T, far.labels, k)
    given = jnp.where(empty, moved[rank], 0)
    return (
        jnp.where(empty[:, None], given[:, None] * far.points.T[rank], left),
        jnp.where(empty, given, rest),
    )


def _farthest(blocks: _Blocks, centers: Float[Array, "k d"]) -> _Farthest:
    k, dimensions = centers.shape

    def merge(far: _Farthest, block: _Blocks) -> tuple[_Farthest, None]:
        labels = _nearest(block.points, centers)
        distances = _distances(block.points, centers, labels)
        distances = jnp.where(block.weights > 0, distances, -1)
        distances, chosen = jax.lax.top_k(jnp.concatenate([far.distances, distances]), k)
        return _Farthest(
            distances,
            jnp.concatenate([far.points, block.points], 1)[:, chosen],
            jnp.concatenate([far.weights, block.weights])[chosen],
            jnp.concatenate([far.labels, labels])[chosen],
        ), None

    zeros = jnp.zeros(k, centers.dtype)
    nothing = _Farthest(
        zeros - 1, jnp.zeros((dimensions, k), centers.dtype), zeros, jnp.zeros(k, jnp.int32)
    )
    return jax.lax.scan(merge, nothing, blocks)[0]


def _seed(key: PRNGKey, blocks: _Blocks, k: int) -> Float[Array, "k d"]:
    """Draws k points far apart: each the best of several, drawn with probability ∝ w·D²."""
    candidates = 2 + int(math.log(k))
    first_key, rest_key = jax.random.split(key)
    first = _sample(first_key, blocks, blocks.weights, 1)[0]

    def nearer(
        block: Float[Array, "d m"], distances: Float[Array, " m"], centers: Float[Array, "c d"]
    ) -> Float[Array, "c m"]:
        terms = [jnp.square(block[i][None] - centers[:, i, None]) for i in range(block.shape[0])]
        return jnp.minimum(sum(terms[1:], terms[0]), distances[None])

    def add(
        distances: Float[Array, "b m"], step_key: PRNGKey
    ) -> tuple[Float[Array, "b m"], Float[Array, " d"]]:
        masses = blocks.weights * distances
        drawn = _sample(step_key, blocks, masses, candidates)
        # Where every point lies on a centre there is nothing to draw from.
        drawn = jnp.where(masses.sum() > 0, drawn, first[None])

        def potential(xs: tuple[_Blocks, Float[Array, " m"]]) -> Float[Array, " c"]:
            block, distances = xs
            return (block.weights[None] * nearer(block.points, distances, drawn)).sum(1)

        best = drawn[jnp.argmin(jax.lax.map(potential, (blocks, distances)).sum(0))]
        return update(best, distances), best

    def update(center: Float[Array, " d"], distances: Float[Array, "b m"]) -> Float[Array, "b m"]:
        return jax.lax.map(
            lambda xs: nearer(xs[0], xs[1], center[None])[0], (blocks.points, distances)
        )

    start = update(first, jnp.full(blocks.weights.shape, jnp.inf, blocks.weights.dtype))
    _, rest = jax.lax.scan(add, start, jax.random.split(rest_key, k - 1))
    return jnp.concatenate([first[None], rest])


def _sample(
    key: PRNGKey, blocks: _Blocks, masses: Float[Array, "b m"], draws: int
) -> Float[Array, "c d"]:
    """Draws points with probability ∝ their masses: first a block, then a point of it.

    One running sum over millions of float32 would lose the small ones.
    """
    block_key, point_key = jax.random.split(key)
    of_blocks = masses.sum(1)

    def draw(block_u: Array, point_u: Array) -> Float[Array, " d"]:
        block = _invert(of_blocks, block_u)
        return blocks.points[block, :, _invert(masses[block], point_u)]

    return jax.vmap(draw)(
        jax.random.uniform(block_key, (draws,), masses.dtype),
        jax.random.uniform(point_key, (draws,), masses.dtype),
    )


def _invert(masses: Float[Array, " m"], u: Float[Array, ""]) -> Int[Array, ""]:
    cumulative = jnp.cumsum(masses)
    # Rounding must never choose a point without mass.
    eligible = (cumulative > u * cumulative[-1]) & (masses > 0)
    return jnp.where(eligible.any(), jnp.argmax(eligible), jnp.argmax(masses))
