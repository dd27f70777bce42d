"""k-means inside XLA, over millions of points: what the paper clusters its filters with.

The points are dealt into blocks that are scanned one after the other, so that beside one copy of
the points (transposed: an operation over a block then runs along its points) and a few numbers a
point, memory holds a few blocks only. Of many blocks the first few, which are a sample of all the
points, see the seeding and the first steps of Lloyd's algorithm. Blocks for points of weight 0 at
the end are never looked at, so that points of several lengths, filled up, can share one program.
"""

import functools
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Num

from jaxinit import point_blocks, seeding
from jaxinit.signatures import PRNGKey

# So many blocks are the sample. Fewer would save little time, and miss smaller clusters.
_SAMPLE = 4

# Up to this many products of a centre's coordinate and a point's, one fused loop over the points
# beats a matrix product and a search; beyond it, compilation takes too long.
_UNROLLED_PRODUCTS = 128

#: One row a point.
Points = Float[Array | np.ndarray, "n d"]
#: k rows; `fit` says where they do not fit.
Centers = Float[Array | np.ndarray, "_ _"]
#: One number a point, likewise.
Weights = Num[Array | np.ndarray, "_"]


class KMeansResult(NamedTuple):
    """What `fit` found.

    Attributes:
        centers: One row a cluster.
        labels: The number of each point's nearest centre.
        sizes: The total weight of each cluster's points. 0 where there are fewer different points
            than clusters (the centre is then a copy of another), or where `max_iterations` ended
            before an emptied cluster could move.
        inertia: Σ weight · (distance to the nearest centre)².
        iterations: How many steps of Lloyd's algorithm on all points the best restart took.
    """

    centers: Float[Array, "k d"]
    labels: Int32[Array, " n"]
    sizes: Float[Array, " k"]
    inertia: Float[Array, ""]
    iterations: Int[Array, ""]


class _Lloyd(NamedTuple):
    centers: Float[Array, "k d"]
    shift: Float[Array, ""]  # Σ (squared movement of the centres in the last step)
    iterations: Int[Array, ""]
    live: Int[Array, ""]  # how many blocks it looks at


def fit(
    key: PRNGKey,
    points: Points,
    k: int,
    *,
    weights: Weights | None = None,
    centers: Centers | None = None,
    restarts: int = 1,
    max_iterations: int = 300,
    tolerance: float = 1e-4,
) -> KMeansResult:
    """Finds k centres that minimise the inertia Σᵢ wᵢ·minⱼ ‖xᵢ − cⱼ‖².

    Each restart seeds by greedy k-means++ (2 + ⌊ln k⌋ candidates a centre), then repeats Lloyd's
    step until the centres have settled; the restart of least inertia is kept. A cluster that loses
    all its points moves to the point that is farthest from its own centre, and several such
    clusters to as many farthest points, as in scikit-learn. Distances are compared by
    ‖c‖²/2 − x·c around the mean of the data, against cancellation; the inertia is a sum of exact
    differences. Of more than 262,144 points so many, evenly drawn, see the seeding and Lloyd's
    algorithm first, and all of them only its last steps: clusters of fewer than a ten-thousandth of
    the points may be missed. Can be jitted, and vmapped over keys; values are then not checked.

    Args:
        key: Chooses the seeds; the same key gives the same result.
        points: One row a point; less than 32 bits are widened to float32.
        k: Number of clusters. Static.
        weights: How many times each point counts, at least 0; None means once.
        centers: k rows to start every restart from, instead of seeding.
        restarts: How many seeds to start from, one after the other. Static.
        max_iterations: Most steps of Lloyd's algorithm of one restart on all points, and before
            that on the sample.
        tolerance: Stop once the summed squared movement of the centres is at most this part of the
            mean variance of the coordinates; 0 runs until nothing moves.

    Returns:
        Centres, labels, sizes, inertia and iterations of the best restart.

    Raises:
        ValueError: k is below 1 or above the number of points of positive weight; points or
            weights are not finite; weights are negative; a shape does not fit.

    Source: Lloyd 1982; Arthur & Vassilvitskii 2007, section 4 for the greedy seeding.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> points = jnp.array([[0.0], [1.0], [10.0], [11.0]])
        >>> float(fit(jax.random.key(0), points, 2).inertia)
        1.0
    """
    _check(points, weights, centers, k, restarts, max_iterations)
    dtype = _wide(points)
    return _fit(
        key,
        jnp.asarray(points, dtype),
        jnp.ones(len(points), dtype) if weights is None else jnp.asarray(weights, dtype),
        None if centers is None else jnp.asarray(centers, dtype),
        k=k,
        restarts=restarts,
        max_iterations=max_iterations,
        tolerance=tolerance,
    )


@jax.jit
def assign(points: Points, centers: Centers) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
    """Finds each point's nearest centre, block by block.

    Args:
        points: One row a point.
        centers: One row a centre.

    Returns:
        The number of the nearest centre (the lowest of equals), and the squared distance to it.
    """
    points = jnp.asarray(points, _wide(points))
    centers = jnp.asarray(centers, points.dtype)
    count, dimensions = points.shape
    size, blocks = point_blocks.block_size(count)
    middle = centers.mean(0)

    def body(rows: Float[Array, "m d"]) -> tuple[Array, Array]:
        block = (rows - middle[None]).T
        labels = _nearest(block, centers - middle[None])
        return labels, _distances(block, centers - middle[None], labels)

    rows = jnp.pad(points, ((0, blocks * size - count), (0, 0)))
    labels, distances = jax.lax.map(body, rows.reshape(blocks, size, dimensions))
    return labels.reshape(-1)[:count], distances.reshape(-1)[:count]


def _wide(points: Points) -> jnp.dtype:
    return jnp.promote_types(points.dtype, jnp.float32)


def _check(
    points: Points,
    weights: Weights | None,
    centers: Centers | None,
    k: int,
    restarts: int,
    max_iterations: int,
) -> None:
    count = len(points)
    if k < 1:
        raise ValueError(f"k={k} clusters cannot be made: ask for 1 or more")
    if k > count:
        raise ValueError(f"k={k} clusters need at least {k} points, but there are only {count}")
    if restarts < 1 or max_iterations < 1:
        raise ValueError(f"{restarts=} and {max_iterations=} must both be 1 or more")
    if centers is not None and centers.shape != (k, points.shape[1]):
        raise ValueError(f"centers of shape {centers.shape} should be {(k, points.shape[1])}")
    if weights is not None and weights.shape != (count,):
        raise ValueError(f"weights of shape {weights.shape} do not give each of {count} points one")
    if not isinstance(points, jax.core.Tracer):
        with jax.ensure_compile_time_eval():  # known points stay known where `fit` is traced
            finite = bool(jnp.isfinite(points).all())
        if not finite:
            raise ValueError("points hold NaN or ∞: remove what is not finite first")
    if weights is None or isinstance(weights, jax.core.Tracer):
        return
    values = np.asarray(weights)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("weights must be finite and not negative")
    if k > (positive := int((values > 0).sum())):
        raise ValueError(f"k={k} clusters need {k} points of positive weight, not {positive}")


@functools.partial(jax.jit, static_argnames=("k", "restarts"))
def _fit(
    key: PRNGKey,
    points: Float[Array, "n d"],
    weights: Float[Array, " n"],
    start: Float[Array, "k d"] | None,
    *,
    k: int,
    restarts: int,
    max_iterations: int | Int[Array, ""],
    tolerance: float | Float[Array, ""],
) -> KMeansResult:
    blocks = point_blocks.deal(points, weights)
    total = blocks.weights.sum(1).sum()
    mean = (blocks.points * blocks.weights[:, None]).sum(2).sum(0) / total
    blocks = point_blocks.shift(blocks, mean)
    squares = (jnp.square(blocks.points) * blocks.weights[:, None]).sum(2).sum(0)
    threshold = tolerance * jnp.mean(squares / total)
    sample = point_blocks.Blocks(
        blocks.points[:_SAMPLE], blocks.weights[:_SAMPLE], jnp.minimum(blocks.used, _SAMPLE)
    )

    def restart(restart_key: PRNGKey) -> tuple[_Lloyd, Float[Array, ""]]:
        if start is None:
            centers, live = seeding.seed(restart_key, sample, k), sample.used
        else:
            centers, live = start - mean[None], blocks.used
        found = _lloyd(blocks, centers, live, threshold, max_iterations)
        return found, _inertia(blocks, found.centers)

    found, inertias = jax.lax.map(restart, jax.random.split(key, restarts))
    best = jnp.argmin(inertias)
    centers, iterations = found.centers[best], found.iterations[best]
    labels, _ = assign(points, centers + mean[None])
    sizes = jax.ops.segment_sum(weights, labels, k)
    return KMeansResult(centers + mean[None], labels, sizes, inertias[best], iterations)


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
    # A coordinate at a time, as XLA then fuses all; one gather of whole columns takes three times
    # as long.
    squares = [
        jnp.square(points[i] - centers[:, i].at[labels].get(mode="promise_in_bounds"))
        for i in range(len(points))
    ]
    return sum(squares[1:], squares[0])


def _assign(
    blocks: point_blocks.Blocks, centers: Float[Array, "k d"]
) -> tuple[Int32[Array, "b m"], Float[Array, "b m"]]:
    def body(points: Float[Array, "d m"]) -> tuple[Array, Array]:
        labels = _nearest(points, centers)
        return labels, _distances(points, centers, labels)

    return jax.lax.map(body, blocks.points)


def _inertia(blocks: point_blocks.Blocks, centers: Float[Array, "k d"]) -> Float[Array, ""]:
    def add(number: Array, total: Array) -> Array:
        points = blocks.points[number]
        squares = _distances(points, centers, _nearest(points, centers))
        return total + (blocks.weights[number] * squares).sum()

    return jax.lax.fori_loop(0, blocks.used, add, jnp.zeros((), centers.dtype))


def _totals(
    points: Float[Array, "d m"], weights: Float[Array, " m"], labels: Int32[Array, " m"], k: int
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Sums the weighted points, and the weights, of each cluster in one block."""

    def scattered(points: Array, weights: Array, labels: Array) -> tuple[Array, Array]:
        # A scatter runs on one core: two of them, on two.
        half = labels.shape[0] // 2
        parts = [slice(0, half), slice(half, None)]
        add = functools.partial(jax.ops.segment_sum, num_segments=k, mode="promise_in_bounds")
        sums = [add((points[:, p] * weights[None, p]).T, labels[p]) for p in parts]
        masses = [add(weights[p], labels[p]) for p in parts]
        return sums[0] + sums[1], masses[0] + masses[1]

    def multiplied(points: Array, weights: Array, labels: Array) -> tuple[Array, Array]:
        # Elsewhere a scatter to k rows queues at each, and adds in no fixed order.
        members = jnp.where(
            labels[None] == jnp.arange(k, dtype=jnp.int32)[:, None], weights[None], 0
        )
        sums = jnp.matmul(members, points.T, precision=jax.lax.Precision.HIGHEST)
        return sums, members.sum(1)

    return jax.lax.platform_dependent(points, weights, labels, cpu=scattered, default=multiplied)


def _lloyd(
    blocks: point_blocks.Blocks,
    centers: Float[Array, "k d"],
    live: Int[Array, ""],
    threshold: Float[Array, ""],
    max_iterations: int | Int[Array, ""],
) -> _Lloyd:
    """Steps until the centres stand still, first on the live blocks, then on all."""

    def settled(state: _Lloyd) -> Array:
        return (state.shift <= threshold) | (state.iterations >= max_iterations)

    def step(state: _Lloyd) -> _Lloyd:
        live = jnp.where(settled(state), blocks.used, state.live)
        iterations = jnp.where(live > state.live, 0, state.iterations) + 1
        centers = _step(blocks, state.centers, live)
        return _Lloyd(centers, jnp.square(centers - state.centers).sum(), iterations, live)

    start = _Lloyd(centers, jnp.array(jnp.inf, centers.dtype), jnp.array(0), live)
    return jax.lax.while_loop(lambda s: ~settled(s) | (s.live < blocks.used), step, start)


def _step(
    blocks: point_blocks.Blocks, centers: Float[Array, "k d"], live: Int[Array, ""]
) -> Float[Array, "k d"]:
    k = centers.shape[0]

    def add(number: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        points = blocks.points[number]
        sums, masses = _totals(points, blocks.weights[number], _nearest(points, centers), k)
        return totals[0] + sums, totals[1] + masses

    start = (jnp.zeros_like(centers), jnp.zeros(k, centers.dtype))
    sums, masses = jax.lax.fori_loop(0, live, add, start)
    sums, masses = jax.lax.cond(
        (masses == 0).any(),
        functools.partial(_relocate, blocks, live, centers),
        lambda sums, masses: (sums, masses),
        sums,
        masses,
    )
    return jnp.where((masses > 0)[:, None], sums / jnp.maximum(masses, 1e-30)[:, None], centers)


def _relocate(
    blocks: point_blocks.Blocks,
    live: Int[Array, ""],
    centers: Float[Array, "k d"],
    sums: Float[Array, "k d"],
    masses: Float[Array, " k"],
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Gives each empty cluster one of the points farthest from their centres."""
    k = centers.shape[0]
    labels, distances = _assign(blocks, centers)
    seen = (blocks.weights > 0) & (jnp.arange(len(distances), dtype=jnp.int32) < live)[:, None]
    distances, far = jax.lax.top_k(jnp.where(seen, distances, -1).reshape(-1), k)
    block, place = jnp.divmod(far, blocks.weights.shape[1])
    points, donors = blocks.points[block, :, place], labels[block, place]
    empty = masses == 0
    # A point that lies on its centre is no use: then there are fewer different points than k.
    used = (jnp.arange(k, dtype=jnp.int32) < empty.sum(dtype=jnp.int32)) & (distances > 0)
    moved = jnp.where(used, blocks.weights[block, place], 0)
    left = sums - jax.ops.segment_sum(points * moved[:, None], donors, k)
    rest = masses - jax.ops.segment_sum(moved, donors, k)
    # A donor left with rounding errors alone had this one point: it stays where it was.
    rest = jnp.where(rest > 1e-6 * masses, rest, 0)
    rank = (
        jnp.cumsum(empty, dtype=jnp.int32) - 1
    )  # which of the farthest points an empty cluster gets
    given = jnp.where(empty, moved[rank], 0)
    sums = jnp.where(empty[:, None], given[:, None] * points[rank], left)
    return sums, jnp.where(empty, given, rest)
