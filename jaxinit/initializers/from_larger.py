"""Starts whose weights are selected from a larger trained network's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxinit import checks, kernels, trees
from jaxinit import layers as network_layers
from jaxinit.initializers.composition import fill_layers
from jaxinit.initializers.from_networks import source_kernel
from jaxinit.layers import Dense, Layer, Layers, Network
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey
from jaxinit.trees import Path

_OTHER = "weights are selected from a network of the same family that is wider, deeper or both"


def weight_selection(
    source: Params, layers: Layers = None, *, source_network: Network | None = None
) -> ParamsInitializer:
    """Takes the weights of a smaller network from a larger one: wider, deeper or both.

    A leaf comes from the source's leaf of the same path. So each stage has the first blocks of the
    source's stage, where blocks are numbered within their stages ("layer2_1/conv1"), and one stack
    of layers the first of the source's. Along each axis, of S entries are taken from W: entries
    0, W/S, 2·W/S …, or where S does not divide W, S numbers evenly from 0 to W − 1, rounded. Which
    ones depends on S and W alone: where two layers make or read the same channels, as in a residual
    network, the same channels are taken from both.

    Args:
        source: Parameters of the larger network. With `layers=None` every leaf is filled, such as
            scales and shifts of normalisations; keys of random numbers stay, and the network's last
            linear layer keeps its start if the source's has another number of classes. Trees of one
            axis a leaf, such as a collection "batch_stats", can be filled from theirs in the same
            way.
        layers: Only these convolutions' kernels are filled (see `Network.select`).
        source_network: The larger network's convolutions (`jaxinit.trace`), in which those of the
            same names are looked up. Needed where kernels are parts of a leaf, as under `nn.scan`.

    Raises:
        ValueError: The source lacks a parameter, has fewer entries along an axis, or kernels of
            another size; or the network is not known, or `source_network` is another's (when
            applied).

    Source: Xu et al., "Initializing Models with Larger Ones" (2024), section 3: the first N layers,
    and uniform selection within each. In the authors' program the last of the rounded numbers is W,
    which no entry has; here it is W − 1.

    Example:
        >>> source = {"conv1": {"kernel": jnp.arange(8.0).reshape(1, 1, 2, 4)}}
        >>> params = {"conv1": {"kernel": jnp.zeros((1, 1, 2, 2))}}
        >>> made = weight_selection(source)(jax.random.key(0), params)
        >>> made["conv1"]["kernel"].ravel().tolist()
        [0.0, 2.0, 4.0, 6.0]
    """
    if not jax.tree_util.tree_leaves(source) or isinstance(source, str):
        raise ValueError("weight_selection needs the parameters of a network: a tree of arrays")

    if source_network is not None:
        checks.kind("source_network", source_network, Network, "what jaxinit.trace returns")

    def make(key: PRNGKey, layer: Layer, kernel: Array) -> Array:
        del key
        return _selected_kernel(source, source_network, layer, kernel)

    if layers is not None:
        return fill_layers(make, layers)

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        known = _known(params, network)
        convolutions = [layer for layer in known.layers if layer.path is not None]
        filled = {layer.path for layer in convolutions} | _spared_head(source, params, known)
        given = trees.leaves(source)
        with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
        selected = []
        for keys, leaf in with_paths:
            path = trees.plain_path(keys)
            taken = trees.is_array(leaf) and not trees.is_key(leaf) and path not in filled
            selected.append(_selected_leaf(given, path, leaf) if taken else leaf)
        params = jax.tree_util.tree_unflatten(structure, selected)
        if not convolutions:
            return params
        return fill_layers(make, convolutions)(key, params, network=known)

    return init


def _known(params: Params, network: Network | None) -> Network:
    """The network, or one without layers where its leaves have but one axis."""
    leaves = [leaf for leaf in jax.tree_util.tree_leaves(params) if trees.is_array(leaf)]
    if network is None and all(len(leaf.shape) < 2 for leaf in leaves):
        return Network(())
    return network_layers.of(params, network)


def _spared_head(source: Params, params: Params, network: Network) -> set[Path]:
    """The leaves of the last linear layer, if the source's has another number of classes."""
    head, given = network.head, trees.leaves(source)
    if head is None or head.path not in given:
        return set()
    if _outputs(head, tuple(np.shape(given[head.path]))) == head.shape[1]:
        return set()
    module = trees.module(head.path)
    return {path for path in trees.leaves(params) if trees.module(path) == module}


def _outputs(dense: Dense, shape: tuple[int, ...]) -> int:
    """How many outputs a linear layer has that is stored as this one is, in another shape."""
    for step in dense.view:
        if not isinstance(step, kernels.Transpose):
            break
        shape = step.shape(shape)
    return shape[-1]


def _selected_leaf(given: dict[Path, Any], path: Path, leaf: Any) -> Array:
    name = "/".join(map(str, path))
    if path not in given:
        raise ValueError(f"the larger network has no {name}: {_OTHER}")
    return kernels.like(_selected(jnp.asarray(given[path]), tuple(leaf.shape), name), leaf)


def _selected_kernel(
    source: Params, source_network: Network | None, layer: Layer, kernel: Array
) -> Array:
    theirs = layer if source_network is None else source_network[layer.name]
    if source_network is None and layer.path is not None:
        given = trees.leaves(source).get(layer.path, np.zeros(layer.stored))
        moved = any(isinstance(step, kernels.Part | kernels.Reshape) for step in layer.view)
        if moved and tuple(np.shape(given)) != layer.stored:
            raise ValueError(
                f"the kernel of {layer.name} is a part of a leaf, or shaped anew: give "
                "source_network=jaxinit.trace(…) of the larger network, so that it is found there"
            )
    whole = source_kernel(source, theirs, "the larger network")
    if whole.shape[:-2] != kernel.shape[:-2]:
        raise ValueError(
            f"layer {layer.name} has kernels of {kernels.sides(whole.shape[:-2])} in the larger "
            f"network and of {kernels.sides(kernel.shape[:-2])} here: {_OTHER}, with kernels of "
            "the same size"
        )
    return _selected(whole, kernel.shape, layer.name).astype(kernel.dtype)


def _selected(array: Array, shape: tuple[int, ...], name: str) -> Array:
    """Selects evenly along each axis."""
    if array.ndim != len(shape) or any(
        own < wanted for own, wanted in zip(array.shape, shape, strict=True)
    ):
        raise ValueError(
            f"{name} has the shape {array.shape} in the larger network and {shape} here, which is "
            f"not a selection of it: {_OTHER}"
        )
    for axis, (own, wanted) in enumerate(zip(array.shape, shape, strict=True)):
        if own != wanted:
            array = jnp.take(array, _evenly(own, wanted), axis=axis)
    return array


def _evenly(whole: int, wanted: int) -> Int[np.ndarray, " n"]:
    """Which entries are taken of an axis."""
    if whole % max(wanted, 1) == 0:
        return np.arange(wanted, dtype=np.int32) * (whole // max(wanted, 1))
    return np.round(np.linspace(0, whole - 1, wanted)).astype(np.int32)
