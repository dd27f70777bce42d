"""k-means inside XLA, over millions of points: what the paper clusters its filters with.

The points are dealt into blocks that are scanned one after the other, so that beside one copy of
the points (transposed: an operation over a block then runs along its points) and a few numbers a
point, memory holds a few blocks only. Of many blocks the first few, which are a sample of all the
points, see the seeding and the first steps of Lloyd's algorithm. Blocks for points of weight 0 at
the end are never looked at, so that points of several lengths, filled up, can share one program.
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Num

from jaxinit import checks, compilation, nearest_centers, point_blocks, seeding
from jaxinit.signatures import PRNGKey

# Of so many blocks the seeds are drawn; fewer would miss smaller clusters. Lloyd's steps go over
# the first of them alone, until the centres settle, and only then over all blocks.
_SEEDED = 4

#: Defaults of `fit`.
MAX_ITERATIONS, TOLERANCE = 300, 1e-4

# One running sum of weights adds no more than so many, where no more such sums are needed.
_ADDED, _SUMS = 16, 2**20

#: One row a point.
Points = Num[Array | np.ndarray, "n d"]
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
        inertia: Σ weight · (distance to the nearest centre)²; 0 or ∞ where float32 holds no such
            number.
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
    inertia: Float[Array, ""]  # that of the centres before the last step
    measured: Bool[Array, ""]  # whether that step left them where they were


def fit(
    key: PRNGKey,
    points: Points,
    k: int,
    *,
    weights: Weights | None = None,
    centers: Centers | None = None,
    restarts: int = 1,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
) -> KMeansResult:
    """Finds k centres that minimise the inertia Σᵢ wᵢ·minⱼ ‖xᵢ − cⱼ‖².

    Each restart seeds by greedy k-means++ (2 + ⌊ln k⌋ candidates a centre), then repeats Lloyd's
    step until the centres have settled; the restart of least inertia is kept. A cluster that loses
    all its points moves to the point that is farthest from its own centre, and several such
    clusters to as many farthest points, as in scikit-learn. Distances are sums of squared
    differences, of data brought near 1 by a power of two: labels are those of exact arithmetic up
    to the rounding of one distance, however far clusters lie apart, and however small or large all
    is. Of more than 65,536 points as many, evenly drawn, see the first steps of Lloyd's algorithm,
    four times as many the seeding, and all of them only its last steps: of more than 262,144
    points, clusters of fewer than a ten-thousandth may be missed. Can be jitted, and vmapped over
    keys; values are then not checked.

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
            mean variance of the coordinates (of 262,144 points, where there are more). 0 runs
            until nothing moves.

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
    checks.key(key)
    checks.numbers(tolerance=tolerance)
    _check(points, weights, centers, k, restarts, max_iterations)
    dtype = _wide(points)
    if centers is None:
        start = seeding.draws(key, k, restarts, dtype)
    else:
        start = jnp.broadcast_to(jnp.asarray(centers, dtype), (restarts, *centers.shape))
    return _fit(
        jnp.asarray(points, dtype),
        jnp.ones(len(points), dtype) if weights is None else jnp.asarray(weights, dtype),
        start,
        seeded=centers is None,
        max_iterations=max_iterations,
        tolerance=tolerance,
    )


def compile_for(shapes: Iterable[tuple[int, int]], k: int, *, restarts: int = 1) -> None:
    """Compiles what `fit` needs for float32 points of several shapes, side by side.

    Args:
        shapes: Of points: how many, and of how many coordinates.
        k: As `fit` will be told.
        restarts: As `fit` will be told.
    """
    dtype = jnp.dtype(jnp.float32)
    draws = jax.eval_shape(lambda: seeding.draws(jax.random.key(0), k, restarts, dtype))
    lowered = [
        _fit.lower(
            jax.ShapeDtypeStruct(shape, dtype),
            jax.ShapeDtypeStruct(shape[:1], dtype),
            draws,
            seeded=True,
            max_iterations=MAX_ITERATIONS,
            tolerance=TOLERANCE,
        )
        for shape in dict.fromkeys(shapes)
    ]
    compilation.compile_all(lowered)


def assign(points: Points, centers: Centers) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
    """Finds each point's nearest centre, block by block, by exact differences.

    Args:
        points: One row a point.
        centers: One row a centre.

    Returns:
        The number of the nearest centre (the lowest of equals), and the squared distance to it.

    Raises:
        ValueError: No points, no centres, or of other numbers of coordinates.
    """
    for name, rows in (("points", points), ("centers", centers)):
        checks.array(name, rows, 2, jnp.number)
    if not points.size or not centers.size or points.shape[1] != centers.shape[1]:
        raise ValueError(
            f"points of shape {points.shape} cannot be given centers of shape {centers.shape}"
        )
    return _assign(points, centers)


@jax.jit
def _assign(points: Points, centers: Centers) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
    points = jnp.asarray(points, _wide(points))
    centers = jnp.asarray(centers, points.dtype)
    scale = point_blocks.scale(points, centers)
    count, dimensions = points.shape
    size, blocks = point_blocks.block_size(count)

    def body(number: Array) -> tuple[Array, Array]:
        # The last block begins early enough to be full.
        first = jnp.minimum(number * size, count - size)
        rows = jax.lax.dynamic_slice(points, (first, 0), (size, dimensions))
        return nearest_centers.nearest(rows.T * scale, centers * scale)

    def in_order(values: Array) -> Array:
        return jnp.concatenate([values[:-1].reshape(-1), values[-1, blocks * size - count :]])

    labels, squares = jax.lax.map(body, jnp.arange(blocks, dtype=jnp.int32))
    return in_order(labels), in_order(squares) / scale / scale


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
    checks.whole(k=k, restarts=restarts, max_iterations=max_iterations)
    checks.array("points", points, 2, jnp.number)
    if centers is not None:
        checks.array("centers", centers, 2, jnp.number)
    if weights is not None:
        checks.array("weights", weights, 1, jnp.number)
    count = len(points)
    if not points.shape[1]:
        raise ValueError(f"points of shape {points.shape} have no coordinates")
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
            finite = bool(_finite(points))
        if not finite:
            raise ValueError("points hold NaN or ∞: remove what is not finite first")
    if weights is None or isinstance(weights, jax.core.Tracer):
        return
    values = np.asarray(weights)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("weights must be finite and not negative")
    if k > (positive := int((values > 0).sum())):
        raise ValueError(f"k={k} clusters need {k} points of positive weight, not {positive}")


@jax.jit
def _finite(points: Points) -> Bool[Array, ""]:
    return jnp.isfinite(points).all()


@functools.partial(jax.jit, static_argnames="seeded")
def _fit(
    points: Float[Array, "n d"],
    weights: Float[Array, " n"],
    starts: Float[Array, "r k 2 c"] | Float[Array, "r k d"],
    *,
    seeded: bool,
    max_iterations: int | Int[Array, ""],
    tolerance: float | Float[Array, ""],
) -> KMeansResult:
    scale = point_blocks.scale(jnp.where(weights[:, None] > 0, points, 0))
    blocks = point_blocks.deal(points, weights, scale)
    sample = point_blocks.first(blocks, _SEEDED)
    threshold = tolerance * _mean_variance(sample)

    def restart(start: Array) -> _Lloyd:
        if seeded:
            centers, live = seeding.seed(start, sample), jnp.ones_like(blocks.used)
        else:
            centers, live = start * scale, blocks.used
        return _lloyd(blocks, centers, live, threshold, max_iterations, measure=len(starts) > 1)

    found = jax.lax.map(restart, starts)
    best = jnp.argmin(found.inertia)
    centers = found.centers[best]
    labels, sizes, inertia = _measured(blocks, centers, len(points))
    return KMeansResult(
        centers / scale, labels, sizes, inertia / scale / scale, found.iterations[best]
    )


def _mean_variance(blocks: point_blocks.Blocks) -> Float[Array, ""]:
    """The mean, over the coordinates, of their variance."""
    weights = blocks.weights[:, None]
    mass = blocks.weights.sum()
    mean = (blocks.points * weights).sum((0, 2)) / mass
    return (jnp.square(blocks.points - mean[None, :, None]) * weights).sum((0, 2)).mean() / mass


def _measured(
    blocks: point_blocks.Blocks, centers: Float[Array, "k d"], count: int
) -> tuple[Int32[Array, " n"], Float[Array, " k"], Float[Array, ""]]:
    """The labels of all points, the clusters' sizes and the inertia."""
    k, size = len(centers), blocks.weights.shape[1]
    groups = max(1, min(size // _ADDED, _SUMS // k))

    def measure(block: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        points, weights = block
        labels, squares = nearest_centers.nearest(points, centers)
        sums = jnp.arange(size, dtype=jnp.int32) % groups * k + labels
        sizes = jax.ops.segment_sum(weights, sums, groups * k, mode="promise_in_bounds")
        total = point_blocks.total
        return labels, total(sizes.reshape(groups, k)), total(weights * squares)

    labels, sizes, inertias = jax.lax.map(measure, (blocks.points, blocks.weights))
    in_order = (
        jnp.zeros(count, jnp.int32).at[blocks.rows.reshape(-1)].set(labels.reshape(-1), mode="drop")
    )
    return in_order, point_blocks.total(sizes), point_blocks.total(inertias)


def _totals(
    points: Float[Array, "d m"], weights: Float[Array, " m"], labels: Int32[Array, " m"], k: int
) -> Float[Array, "k d+1"]:
    """Sums the weighted points, and last the weights, of each cluster in one block."""

    def multiplied(points: Array, weights: Array, labels: Array) -> Array:
        own = labels[:, None] == jnp.arange(k, dtype=jnp.int32)[None]
        members = jnp.where(own, weights[:, None], 0)
        product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
        masses = product(jnp.ones_like(weights)[None], members)
        return jnp.concatenate([product(points, members), masses]).T

    def scattered(points: Array, weights: Array, labels: Array) -> Array:
        rows = jnp.concatenate([points * weights[None], weights[None]]).T
        # A scatter runs on one core: two of them, on two.
        half = len(labels) // 2
        add = functools.partial(jax.ops.segment_sum, num_segments=k, mode="promise_in_bounds")
        return add(rows[:half], labels[:half]) + add(rows[half:], labels[half:])

    # Elsewhere than on a CPU a scatter to k rows queues at each, and adds in no fixed order.
    return jax.lax.platform_dependent(points, weights, labels, cpu=scattered, default=multiplied)


def _lloyd(
    blocks: point_blocks.Blocks,
    centers: Float[Array, "k d"],
    live: Int[Array, ""],
    threshold: Float[Array, ""],
    max_iterations: int | Int[Array, ""],
    *,
    measure: bool,
) -> _Lloyd:
    """Steps until the centres stand still, first on the live blocks, then on all."""

    def settled(state: _Lloyd) -> Array:
        return (state.shift <= threshold) | (state.iterations >= max_iterations)

    def ended(state: _Lloyd) -> Array:
        return settled(state) & (state.live >= blocks.used)

    def step(state: _Lloyd) -> _Lloyd:
        last = ended(state)  # which but measures
        live = jnp.where(settled(state), blocks.used, state.live)
        iterations = jnp.where(live > state.live, 0, state.iterations) + jnp.where(last, 0, 1)
        centers, inertia = _step(blocks, state.centers, live, measure)
        centers = jnp.where(last, state.centers, centers)
        shift = jnp.where(last, state.shift, jnp.square(centers - state.centers).sum())
        return _Lloyd(centers, shift, iterations, live, inertia, last)

    infinite = jnp.array(jnp.inf, centers.dtype)
    start = _Lloyd(centers, infinite, jnp.array(0), live, infinite, jnp.array(False))
    return jax.lax.while_loop(lambda s: ~s.measured if measure else ~ended(s), step, start)


def _step(
    blocks: point_blocks.Blocks, centers: Float[Array, "k d"], live: Int[Array, ""], measure: bool
) -> tuple[Float[Array, "k d"], Float[Array, ""]]:
    """Moves the centres to the means of their points; returns the inertia before, if asked for."""
    k, dimensions = centers.shape

    def add(number: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        points, weights = blocks.points[number], blocks.weights[number]
        labels, squares = nearest_centers.nearest(points, centers)
        inertia = totals[1]
        if measure:
            inertia += jnp.vdot(weights, squares, precision=jax.lax.Precision.HIGHEST)
        return totals[0] + _totals(points, weights, labels, k), inertia

    start = (jnp.zeros((k, dimensions + 1), centers.dtype), jnp.zeros((), centers.dtype))
    totals, inertia = jax.lax.fori_loop(0, live, add, start)
    sums, masses = jax.lax.cond(
        (totals[:, -1] == 0).any(),
        functools.partial(_relocate, blocks, live, centers),
        lambda sums, masses: (sums, masses),
        totals[:, :-1],
        totals[:, -1],
    )
    means = sums / jnp.where(masses > 0, masses, 1)[:, None]
    return jnp.where((masses > 0)[:, None], means, centers), inertia


def _relocate(
    blocks: point_blocks.Blocks,
    live: Int[Array, ""],
    centers: Float[Array, "k d"],
    sums: Float[Array, "k d"],
    masses: Float[Array, " k"],
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Gives each empty cluster one of the points farthest from their centres."""
    k = centers.shape[0]
    labels, distances = jax.lax.map(
        lambda points: nearest_centers.nearest(points, centers), blocks.points
    )
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
