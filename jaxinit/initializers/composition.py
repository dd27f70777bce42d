"""How initialisers compose: one after the other, layer by layer, and what each replaces."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxinit import kernels, trees
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Layers, Network
from jaxinit.signatures import Initializer, Params, ParamsInitializer, PlainInitializer, PRNGKey


def chain(*initializers: ParamsInitializer | PlainInitializer) -> ParamsInitializer:
    """Applies initialisers one after the other; later ones see what earlier ones made.

    Args:
        *initializers: Each gets a key of its own, and the network. A function of key and params
            alone will do as well.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> init = chain(jaxinit.gabor(layers=1), scaled(0.5))
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> init(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """
    for initializer in initializers:
        if _takes(initializer, "shape"):
            raise ValueError("chain takes initialisers of whole trees: wrap this one in per_layer")

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        for step_key, initializer in zip(
            jax.random.split(key, len(initializers)), initializers, strict=True
        ):
            params = run(initializer, step_key, params, network)
        return params

    return init


def run(
    initializer: Callable[..., Params], key: PRNGKey, params: Params, network: Network | None
) -> Params:
    """Calls an initialiser with the network, if there is one and it takes it."""
    if network is None:
        return initializer(key, params)
    if _takes(initializer, "network"):
        return initializer(key, params, network=network)
    return initializer(key, params)


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name, or takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of what has no signature
        return False
    return any(own.name == name or own.kind == own.VAR_KEYWORD for own in parameters)


def changed(
    initializer: ParamsInitializer | PlainInitializer,
    params: Params,
    *,
    network: Network | None = None,
) -> tuple[str, ...]:
    """Tells which leaves an initialiser replaces, without drawing any.

    Args:
        initializer: Any.
        params: The tree that it would be given; shapes suffice.
        network: As it would be given.

    Returns:
        Paths of leaves, joined by "/", in the tree's order.

    Example:
        >>> import jaxinit
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}, "bn1": {"bias": jnp.ones(64)}}
        >>> changed(jaxinit.gabor(layers=1), params)
        ('conv1/kernel',)
    """
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    arrays = [number for number, (_, leaf) in enumerate(with_paths) if hasattr(leaf, "dtype")]

    def replaced(key: Array, given: Sequence[Array]) -> list[Array]:
        filled = [leaf for _, leaf in with_paths]
        for number, leaf in zip(arrays, given, strict=True):
            filled[number] = leaf
        made = run(initializer, key, jax.tree_util.tree_unflatten(structure, filled), network)
        new = jax.tree_util.tree_leaves(made)
        return [new[number] for number in arrays]

    shapes = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for leaf in (with_paths[number][1] for number in arrays)
    ]
    program = jax.make_jaxpr(replaced)(jax.random.key(0), shapes).jaxpr
    return tuple(
        "/".join(map(str, trees.plain_path(with_paths[number][0])))
        for number, before, after in zip(arrays, program.invars[1:], program.outvars, strict=True)
        if before is not after
    )


def per_layer(initializer: Initializer, layers: Layers = None) -> ParamsInitializer:
    """Bridges the two kinds: fills the kernels of some layers with an `Initializer`.

    Args:
        initializer: Makes one kernel (spatial …, in, out), however the tree stores it; each layer
            gets a key of its own. Those of `jax.nn.initializers` do.
        layers: Which convolutions (see `Network.select`); None means all main layers.
    """
    if _takes(initializer, "network"):
        raise ValueError("per_layer takes (key, shape, dtype) initialisers: compose this by chain")
    return fill_layers(
        lambda key, layer, kernel: initializer(key, kernel.shape, kernel.dtype), layers
    )


def fill_layers(
    make: Callable[[PRNGKey, Layer, Array], Array | None], layers: Layers = None
) -> ParamsInitializer:
    """Replaces the kernels of some layers by what a function makes of them.

    Args:
        make: Maps a key of the layer's own, the layer and its kernel (spatial …, in, out) to
            another kernel, or to None where it is to stay.
        layers: Which convolutions (see `Network.select`); None means all main layers.
    """

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        known = network_layers.of(params, network)
        new: dict[Layer, Array] = {}
        chosen = known.select(layers)
        for layer, kernel in zip(chosen, kernels.get_all(params, chosen), strict=True):
            # The key depends on the layer's place in the network, not on which others are chosen.
            layer_key = jax.random.fold_in(key, known.place(layer))
            if (made := make(layer_key, layer, kernel)) is not None:
                new[layer] = _checked(made, layer, kernel)
        return kernels.put(params, new)

    return init


def _checked(made: Any, layer: Layer, kernel: Array) -> Array:
    if not hasattr(made, "shape") or tuple(made.shape) != kernel.shape:
        what = f"shape {tuple(made.shape)}" if hasattr(made, "shape") else type(made).__name__
        raise ValueError(
            f"the initialiser made {what} for layer {layer.name}, whose kernel has the shape "
            f"{kernel.shape}: it must be called with (key, shape, dtype) and return an array"
        )
    return jnp.asarray(made)


def unchanged() -> ParamsInitializer:
    """Leaves everything as it is: random initialisation, where the network drew its own."""

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key, network
        return params

    return init


def scaled(factor: float | Array, layers: Layers = None) -> ParamsInitializer:
    """Multiplies the kernels of some layers by a factor; None means all main layers."""
    return fill_layers(
        lambda key, layer, kernel: kernel * jnp.asarray(factor, kernel.dtype), layers
    )
