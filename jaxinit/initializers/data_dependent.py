"""Starts scaled by what the network makes of a batch of data."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxinit import activations, checks, kernels
from jaxinit.layers import Layer, Layers, Network
from jaxinit.models.modules import at_least_float32
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey


def lsuv(
    apply: Callable[..., Any],
    *args: Any,
    layers: Layers = None,
    target: float = 1.0,
    tolerance: float = 0.1,
    iterations: int = 10,
) -> ParamsInitializer:
    """Scales layer after layer so that its output on a batch has a given variance.

    Layer-sequential unit variance: in the order of calls, w ← w · √(target / Var(w ∗ x)) as long as
    Var is off the target by more than tolerance·target, where x is what the layers before, scaled
    already, make of the batch, and the variance is over images, positions and channels. The authors
    begin with orthonormal kernels, which `chain` puts before.

    The variance is that of the convolution itself, before any bias. A kernel that is used at
    several places is scaled by the first. A layer whose output does not vary, or so much that no
    number of float32 says it, stays as it is. All layers are scaled in one pass over the network,
    which is one compiled program; another pass confirms it, and rounding apart no more is needed,
    as an output is proportional to its kernel. The key is not used.

    Args:
        apply: The network, as of `jaxinit.trace`: called as `apply(params, *args)`. Its batch
            normalisation, if any, does what it does in this call.
        *args: A batch, as the network sees it, and whatever else it needs.
        layers: Which convolutions (see `Network.select`); None means all main layers. The authors
            scale all, and linear layers.
        target: The variance.
        tolerance: How far from it a layer may remain, as a part of it.
        iterations: Most passes over the network.

    Raises:
        ValueError: A target, tolerance or number of iterations that is not positive; or, when
            applied, a layer that is not there, or is called within a `while_loop` or `cond`.

    Source: Mishkin & Matas, "All You Need Is a Good Init" (2016), algorithm 1.

    Example:
        >>> apply = lambda params, x: jax.lax.conv(x, params["w"], (1, 1), "VALID")
        >>> x = jax.random.normal(jax.random.key(0), (2, 4, 8, 8))  # (n, c, h, w), as `lax.conv`
        >>> params = {"w": jnp.ones((8, 4, 3, 3))}  # (o, i, h, w)
        >>> made = lsuv(apply, x)(jax.random.key(1), params)
        >>> round(float(apply(made, x).var()), 4)
        1.0
    """
    checks.numbers(target=target, tolerance=tolerance)
    checks.whole(iterations=iterations)
    if not (target > 0 and tolerance > 0 and iterations >= 1):
        raise ValueError(
            f"{target=} and {tolerance=} must be above 0, and {iterations=} must be 1 or more"
        )

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key
        recorded = activations.record(apply, params, *args)
        chosen = recorded.select(params, layers, network)
        if not chosen:
            return params

        def settle(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            factors, _, passes = state
            given = activations.arrays(_scaled(params, chosen, factors), *args)
            changes, settled = _one_pass(recorded, given, chosen, target, tolerance)
            return factors * changes, settled, passes + 1

        start = jnp.ones(len(chosen), jnp.float32), jnp.array(False), jnp.array(0, jnp.int32)
        found = jax.lax.while_loop(lambda own: ~own[1] & (own[2] < iterations), settle, start)
        return _scaled(params, chosen, found[0])

    return init


def _scaled(params: Params, chosen: Sequence[Layer], factors: Float[Array, " l"]) -> Params:
    """Multiplies each layer's kernel by its factor."""
    wide = [at_least_float32(kernel) for kernel in kernels.get_all(params, chosen)]
    new = [kernel * factors[n].astype(kernel.dtype) for n, kernel in enumerate(wide)]
    return kernels.put(params, dict(zip(chosen, new, strict=True)))


def _one_pass(
    recorded: activations.Recorded,
    given: Sequence[Array],
    chosen: Sequence[Layer],
    target: float,
    tolerance: float,
) -> tuple[Float[Array, " l"], Bool[Array, ""]]:
    """What each kernel is to be multiplied by, those before it being so, and whether by nothing."""
    steps: dict[str, Array | None] = {layer.name: None for layer in chosen}
    settled = jnp.array(True)

    def visit(name: str, output: Array) -> Array:
        nonlocal settled
        if name not in steps:
            return output
        step = steps[name]
        if step is None:  # its first call
            step, done = _step(output, target, tolerance)
            steps[name], settled = step, settled & done
        return output * step.astype(output.dtype)

    recorded.run(given, visit)
    return jnp.stack([step for step in steps.values() if step is not None]), settled


def _step(
    output: Array, target: float, tolerance: float
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """What a kernel is to be multiplied by, and whether it is to stay as it is."""
    _, variance = activations.moments(output)
    factor = jnp.sqrt(target / jnp.where(variance > 0, variance, target)).astype(jnp.float32)
    far = jnp.abs(variance - target) > tolerance * target
    change = far & (variance > 0) & jnp.isfinite(variance) & jnp.isfinite(factor)
    return jnp.where(change, factor, 1), ~change
