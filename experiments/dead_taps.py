"""Taps that see no data: left out of the steps, and brought forward once an epoch, exactly.

On small maps some taps of a kernel only ever meet padding: on 32×32 images eight of nine in most of
ResNet-18's last stage, two thirds of all its parameters. Their gradient is zero, so a step of SGD
changes such a tap w and its velocity v by weight decay λ and momentum μ alone, at rate η:

    v ← μ·v + λ·w,  w ← w − η·v

which is linear: any number of steps is one 2×2 matrix.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from experiments import config
from jaxinit import filters
from jaxinit.filters import LiveTaps


def trim(tree: Any, live: LiveTaps) -> Any:
    """Keeps the live taps of each kernel in a tree of parameters or velocities."""
    kernels = {name: filters.live_part(tree, name, live) for name in live}
    return filters.set_kernels(tree, kernels)


def pad(trimmed: Any, live: LiveTaps, whole: Any) -> Any:
    """Puts zeros in place of the dead taps, which compute the same.

    Args:
        trimmed: What `trim` returned.
        live: As given to it.
        whole: A tree with the shapes that it had.
    """
    kernels = {}
    for name, own in live.items():
        sides = filters.get_kernel(whole, name).shape[:2]
        margins = [(o.start, side - o.stop) for o, side in zip(own, sides, strict=True)]
        kernels[name] = jnp.pad(filters.get_kernel(trimmed, name), (*margins, (0, 0), (0, 0)))
    return filters.set_kernels(trimmed, kernels)


def _put(trimmed: Any, live: LiveTaps, whole: Any) -> Any:
    kernels = {}
    for name, (rows, columns) in live.items():
        kernels[name] = jax.lax.dynamic_update_slice(
            filters.get_kernel(whole, name),
            filters.get_kernel(trimmed, name),
            (rows.start, columns.start, 0, 0),
        )
    return filters.set_kernels(trimmed, kernels)


def trim_optimizer(optimizer: Any, live: LiveTaps) -> Any:
    """Does for the optimiser's state what `trim` does for the parameters."""
    trace = optax.tree_utils.tree_get(optimizer, "trace")
    return optax.tree_utils.tree_set(optimizer, trace=trim(trace, live))


def put_back(
    params: Any, optimizer: Any, old: tuple[Any, Any], live: LiveTaps, steps: int, rate: Array,
    settings: config.Training,
) -> tuple[Any, Any]:  # fmt: skip
    """Joins the live taps after some steps with the dead ones of before, brought forward as many.

    Args:
        params: Trimmed, after the steps.
        optimizer: Its state, likewise.
        old: Both as they were before, not trimmed.
        live: Which taps were kept.
        steps: How many were taken. Static.
        rate: Learning rate of them all.
        settings: Momentum and weight decay.

    Returns:
        Both, whole.
    """
    old_params, old_trace = old[0], optax.tree_utils.tree_get(old[1], "trace")
    (ww, wv), (vw, vv) = _power(steps, rate, settings.momentum, settings.weight_decay)
    dead_params, dead_trace = {}, {}
    for name in live:
        w, v = filters.get_kernel(old_params, name), filters.get_kernel(old_trace, name)
        dead_params[name], dead_trace[name] = ww * w + wv * v, vw * w + vv * v
    trace = optax.tree_utils.tree_get(optimizer, "trace")
    whole = _put(params, live, filters.set_kernels(old_params, dead_params))
    trace = _put(trace, live, filters.set_kernels(old_trace, dead_trace))
    return whole, optax.tree_utils.tree_set(optimizer, trace=trace)


Row = tuple[Float[Array, ""], Float[Array, ""]]


def _power(steps: int, rate: Array, momentum: float, decay: float) -> tuple[Row, Row]:
    """The matrix that takes (w, v) so many steps on."""

    def step(_: Array, rows: tuple[Row, Row]) -> tuple[Row, Row]:
        (ww, wv), (vw, vv) = rows
        vw, vv = momentum * vw + decay * ww, momentum * vv + decay * wv
        return (ww - rate * vw, wv - rate * vv), (vw, vv)

    one, zero = jnp.ones((), rate.dtype), jnp.zeros((), rate.dtype)
    return jax.lax.fori_loop(0, steps, step, ((one, zero), (zero, one)))
