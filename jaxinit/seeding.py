"""Where k-means starts: greedy k-means++ (Arthur & Vassilvitskii 2007, section 4)."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxinit import flat_draws
from jaxinit.point_blocks import Blocks
from jaxinit.signatures import PRNGKey

# Running sums are taken over runs of so many points, and over the runs.
_RUN = 512


@functools.partial(jax.jit, static_argnames=("k", "restarts", "dtype"))
def draws(key: PRNGKey, k: int, restarts: int, dtype: jnp.dtype) -> Float[Array, "r k 2 c"]:
    """Draws what `seed` chooses by: a program of its own, which points of any number share."""
    keys = jax.random.split(key, restarts)
    shape = (k, 2, 2 + int(math.log(k)))
    return jax.vmap(lambda own: flat_draws.shaped(jax.random.uniform, own, shape, dtype))(keys)


def seed(u: Float[Array, "k 2 c"], blocks: Blocks) -> Float[Array, "k d"]:
    """Chooses k points far apart: each the best of several, drawn with probability ∝ w·D²."""
    k = len(u)

    def nearer(
        block: Float[Array, "d m"], distances: Float[Array, " m"], centers: Float[Array, "c d"]
    ) -> Float[Array, "c m"]:
        terms = [jnp.square(block[i][None] - centers[:, i, None]) for i in range(block.shape[0])]
        return jnp.minimum(sum(terms[1:], terms[0]), distances[None])

    def add(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple, Array]:
        distances, previous = carry
        number, u = step
        masses = blocks.weights * jnp.where(number == 0, 1, distances)
        drawn = _sample(u, blocks, masses)
        # Where every point lies on a centre there is nothing to draw from.
        drawn = jnp.where(masses.sum() > 0, drawn, previous[None])

        potentials = jax.lax.map(
            lambda block: (block[1][None] * nearer(block[0], block[2], drawn)).sum(1),
            (blocks.points, blocks.weights, distances),
        ).sum(0)
        # The first seed is a point like any other, not the best of several.
        best = drawn[jnp.where(number == 0, 0, jnp.argmin(potentials))]
        distances = jax.lax.map(
            lambda block: nearer(block[0], block[1], best[None])[0], (blocks.points, distances)
        )
        return (distances, best), best

    infinite = jnp.full(blocks.weights.shape, jnp.inf, blocks.weights.dtype)
    start = (infinite, jnp.zeros_like(blocks.points[0, :, 0]))
    return jax.lax.scan(add, start, (jnp.arange(k, dtype=jnp.int32), u))[1]


def _sample(
    u: Float[Array, "2 c"], blocks: Blocks, masses: Float[Array, "b m"]
) -> Float[Array, "c d"]:
    """Draws points with probability ∝ their masses: first a run of points, then a point of it.

    One running sum over millions of float32 would lose the small ones.
    """
    size = masses.shape[1]
    flat = masses.reshape(-1)
    runs = jnp.pad(flat, (0, -flat.size % _RUN)).reshape(-1, _RUN)
    of_runs = runs.sum(1)

    def draw(u: Float[Array, "2"]) -> Float[Array, " d"]:
        run = _invert(of_runs, u[0])
        block, place = jnp.divmod(run * _RUN + _invert(runs[run], u[1]), size)
        return blocks.points[block, :, place]

    return jax.vmap(draw, in_axes=1)(u)


def _invert(masses: Float[Array, " m"], u: Float[Array, ""]) -> Int[Array, ""]:
    # A product with ones below the diagonal: XLA takes a second to compile a running sum.
    lower = jnp.tri(len(masses), dtype=masses.dtype)
    cumulative = jnp.matmul(lower, masses, precision=jax.lax.Precision.HIGHEST)
    # Rounding must never choose a point without mass.
    eligible = (cumulative > u * cumulative[-1]) & (masses > 0)
    return jnp.where(eligible.any(), jnp.argmax(eligible), jnp.argmax(masses))
