"""Taps that see no data: left out of the steps, and brought forward once an epoch, exactly.

On small maps some taps of a kernel only ever meet padding: on 32×32 images eight of nine in most of
ResNet-18's last stage, two thirds of all its parameters. Their gradient is zero, so a step of SGD
changes such a tap w and its velocity v by weight decay λ and momentum μ alone, at rate η:

    v ← μ·v + λ·w,  w ← w − η·v

which is linear: any number of steps is one 2×2 matrix.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from experiments.training.hyperparameters import Training
from jaxinit import kernels, layers
from jaxinit.layers import Layer, Network


def trimmed_layers(network: Network) -> tuple[Layer, ...]:
    """The convolutions with taps that see no data, as far as they can be taken out of the tree."""
    return tuple(layer for layer in network.layers if layer.dead_taps and layer.view == ())


def trim(tree: Any, network: Network) -> Any:
    """Keeps the live taps of each kernel in a tree of parameters or velocities."""
    live, own = network.live_taps(), trimmed_layers(network)
    parts = [
        layers.live_part(kernel, layer, live)
        for layer, kernel in zip(own, kernels.get_all(tree, own), strict=True)
    ]
    return kernels.put(tree, dict(zip(own, parts, strict=True)))


def pad(trimmed: Any, network: Network, whole: Any) -> Any:
    """Puts zeros in place of the dead taps, which compute the same.

    Args:
        trimmed: What `trim` returned.
        network: As given to it.
        whole: A tree with the shapes that it had.
    """
    live, own = network.live_taps(), trimmed_layers(network)
    padded = {}
    for layer, kernel, before in _both(trimmed, whole, own):
        sides = zip(live[layer.name], before.shape, strict=False)
        margins = [(part.start, side - part.stop) for part, side in sides]
        padded[layer] = jnp.pad(kernel, (*margins, (0, 0), (0, 0)))
    return kernels.put(trimmed, padded)


def _put(trimmed: Any, network: Network, whole: Any) -> Any:
    live, own = network.live_taps(), trimmed_layers(network)
    joined = {}
    for layer, kernel, before in _both(trimmed, whole, own):
        starts = (*(part.start for part in live[layer.name]), 0, 0)
        joined[layer] = jax.lax.dynamic_update_slice(before, kernel, starts)
    return kernels.put(trimmed, joined)


def _both(trimmed: Any, whole: Any, own: Sequence[Layer]) -> Iterable[tuple[Layer, Array, Array]]:
    return zip(own, kernels.get_all(trimmed, own), kernels.get_all(whole, own), strict=True)


def trim_optimizer(optimizer: Any, network: Network) -> Any:
    """Does for the optimiser's state what `trim` does for the parameters."""
    trace = optax.tree_utils.tree_get(optimizer, "trace")
    return optax.tree_utils.tree_set(optimizer, trace=trim(trace, network))


def put_back(
    params: Any, optimizer: Any, old: tuple[Any, Any], network: Network, steps: int, rate: Array,
    settings: Training,
) -> tuple[Any, Any]:  # fmt: skip
    """Joins the live taps after some steps with the dead ones of before, brought forward as many.

    Args:
        params: Trimmed, after the steps.
        optimizer: Its state, likewise.
        old: Both as they were before, not trimmed.
        network: Whose live taps were kept.
        steps: How many were taken. Static.
        rate: Learning rate of them all.
        settings: Momentum and weight decay.

    Returns:
        Both, whole.
    """
    old_params, old_trace = old[0], optax.tree_utils.tree_get(old[1], "trace")
    (ww, wv), (vw, vv) = _power(steps, rate, settings.momentum, settings.weight_decay)
    dead_params, dead_trace = {}, {}
    for layer, w, v in _both(old_params, old_trace, trimmed_layers(network)):
        dead_params[layer], dead_trace[layer] = ww * w + wv * v, vw * w + vv * v
    trace = optax.tree_utils.tree_get(optimizer, "trace")
    whole = _put(params, network, kernels.put(old_params, dead_params))
    trace = _put(trace, network, kernels.put(old_trace, dead_trace))
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
