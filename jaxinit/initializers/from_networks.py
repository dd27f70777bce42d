"""Starts taken from trained networks: all they are, their filters or slices, or these' moments."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinit import banks, kernels, normal_slices, trees
from jaxinit import layers as network_layers
from jaxinit.initializers.composition import fill_layers
from jaxinit.layers import Layer, Layers, Network
from jaxinit.models.modules import at_least_float32
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey
from jaxinit.trees import Path


def pretrained(source: Params, layers: Layers = None) -> ParamsInitializer:
    """Starts from a trained network as it is.

    Args:
        source: Parameters of the trained network, in a tree of the same paths. With `layers=None`
            every leaf is taken, except keys of random numbers, and the network's last linear layer
            if it has another number of classes: these stay.
        layers: Only these convolutions' kernels are taken.

    Raises:
        ValueError: The source lacks a parameter or has another shape there (when applied).
    """
    if not jax.tree_util.tree_leaves(source) or isinstance(source, str):
        raise ValueError("pretrained needs the parameters of a network: a tree of arrays")
    if layers is not None:
        return fill_layers(lambda key, layer, kernel: _same_shape(source, layer, kernel), layers)

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key
        with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
        given = trees.leaves(source)
        paths = [trees.plain_path(path) for path, _ in with_paths]
        own = zip(paths, (leaf for _, leaf in with_paths), strict=True)
        needed = {path for path, leaf in own if not trees.is_key(leaf)}
        there = {path for path, leaf in given.items() if not trees.is_key(leaf)}
        if needed != there:
            odd = sorted("/".join(map(str, p)) for p in needed ^ there)
            raise ValueError(
                f"the pretrained parameters are of another network: {odd[0]} is in one of the "
                "trees alone; load a checkpoint of the same architecture"
            )
        head = _head_module(params, network)
        taken = [
            _take(path, leaf, given[path], head) if path in needed else leaf
            for path, (_, leaf) in zip(paths, with_paths, strict=True)
        ]
        return jax.tree_util.tree_unflatten(structure, taken)

    return init


def _head_module(params: Params, network: Network | None) -> Path | None:
    """The path of the last linear layer's module, as far as it is known."""
    try:
        head = network_layers.of(params, network).head
    except ValueError:
        if network is not None:
            raise
        return None
    return None if head is None else trees.module(head.path)


def _take(path: Path, target: Any, value: Any, head: Path | None) -> Any:
    if not hasattr(target, "shape"):
        return target
    if tuple(target.shape) == tuple(value.shape):
        return kernels.like(jnp.asarray(value), target)
    if head is not None and trees.module(path) == head:
        return target
    raise ValueError(
        f"pretrained {'/'.join(map(str, path))} has shape {tuple(value.shape)}, the network needs "
        f"{tuple(target.shape)}: load a checkpoint of the same architecture"
        + ("" if head is not None else ", or give network=jaxinit.trace(…) to spare its head")
    )


def _same_shape(source: Params, layer: Layer, kernel: Array) -> Array:
    value = source_kernel(source, layer, "the pretrained network")
    if value.shape != kernel.shape:
        raise ValueError(
            f"pretrained layer {layer.name} has shape {value.shape}, the network needs "
            f"{kernel.shape}; load a checkpoint of the same architecture"
        )
    return value.astype(kernel.dtype)


def source_kernel(source: Params, layer: Layer, whose: str) -> Array:
    """Returns a layer's kernel in another network.

    Args:
        source: The other network's parameters.
        layer: Which, in the network that is to be filled.
        whose: What the other network is called in the error.

    Raises:
        ValueError: It has no such layer.
    """
    try:
        return kernels.get(source, layer)
    except ValueError:
        raise ValueError(
            f"{whose} has no layer {layer.name}: give one of the same architecture, or other layers"
        ) from None


def whole_filters(sources: Params | Iterable[Params], layers: Layers = None) -> ParamsInitializer:
    """Draws each output channel's filter whole, with all its input channels, from trained networks.

    Each is drawn independently and uniformly, with replacement, from all that the sources have in
    this layer: of one source of as many channels some 63 % occur, several of them more than once.

    Input channels mean the same in all networks only in the first layer, where colours are; deeper,
    a filter meets other inputs than it was trained with, unless the networks are aligned first
    (`jaxinit.alignment`).

    Args:
        sources: Parameters of trained networks, or of one. Any that NumPy makes arrays of do.
        layers: Which convolutions (see `Network.select`); None means all main layers.

    Raises:
        ValueError: There are no sources, or one lacks a layer or has another shape there than the
            network but for the output channels (when applied).

    Example:
        >>> source = {"conv1": {"kernel": jnp.ones((3, 3, 2, 5))}}
        >>> params = {"conv1": {"kernel": jnp.zeros((3, 3, 2, 4))}}
        >>> made = whole_filters([source])(jax.random.key(0), params)
        >>> float(made["conv1"]["kernel"].sum())
        72.0
    """
    sources = _several(sources, "whole_filters")

    def make(key: PRNGKey, layer: Layer, kernel: Array) -> Array:
        own = [
            source_kernel(source, layer, f"source {index}").astype(kernel.dtype)
            for index, source in enumerate(sources)
        ]
        for index, one in enumerate(own):
            if one.shape[:-1] != kernel.shape[:-1]:
                raise ValueError(
                    f"layer {layer.name} has shape {one.shape} in source {index}, the network "
                    f"needs {kernel.shape}, of which only the last may differ"
                )
        everything = jnp.concatenate(own, axis=-1)
        chosen = jax.random.randint(key, kernel.shape[-1:], 0, everything.shape[-1], jnp.int32)
        return everything[..., chosen]

    return fill_layers(make, layers)


def bootstrap(sources: Params | Iterable[Params], layers: Layers = None) -> ParamsInitializer:
    """Draws every 2-D slice from those of the same layer of trained networks.

    Each slice is drawn independently and uniformly, with replacement, from all that the sources
    have in this layer, whichever channels they join: `clustered` without the clustering, to tell
    what real filters do alone.

    Args:
        sources: Parameters of trained networks, or of one. Any that NumPy makes arrays of do.
        layers: Which convolutions (see `Network.select`); None means all main layers.

    Raises:
        ValueError: There are no sources, or one lacks a layer or has another kernel size there; the
            numbers of channels may differ (when applied).

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979), of slices.

    Example:
        >>> source = {"conv1": {"kernel": jnp.full((3, 3, 2, 5), 2.0)}}
        >>> params = {"conv1": {"kernel": jnp.zeros((3, 3, 1, 4))}}
        >>> float(bootstrap([source])(jax.random.key(0), params)["conv1"]["kernel"].sum())
        72.0
    """
    sources = _several(sources, "bootstrap")

    def make(key: PRNGKey, layer: Layer, kernel: Array) -> Array:
        slices = _slices(sources, layer, kernel)
        count = kernel.shape[-2] * kernel.shape[-1]
        chosen = jax.random.randint(key, (count,), 0, len(slices), jnp.int32)
        return kernels.from_slices(slices[chosen], kernel.shape).astype(kernel.dtype)

    return fill_layers(make, layers)


def covariance(sources: Params | Iterable[Params], layers: Layers = None) -> ParamsInitializer:
    """Draws every 2-D slice from the normal distribution of a layer of trained networks.

    Each slice is independently N(μ, Σ), the mean and covariance of all slices that the sources have
    in this layer. `controls.gaussian` is the same with the moments of a bank.

    Args:
        sources: Parameters of trained networks, or of one. Any that NumPy makes arrays of do.
        layers: Which convolutions (see `Network.select`); None means all main layers.

    Raises:
        ValueError: There are no sources, or one lacks a layer or has another kernel size there; the
            numbers of channels may differ (when applied).

    Source: Trockman, Willmott & Kolter, "Understanding the Covariance Structure of Convolutional
    Filters" (2023), there for depthwise convolutions.

    Example:
        >>> source = {"conv1": {"kernel": jnp.full((3, 3, 2, 5), 2.0)}}
        >>> params = {"conv1": {"kernel": jnp.zeros((3, 3, 1, 4))}}
        >>> round(float(covariance([source])(jax.random.key(0), params)["conv1"]["kernel"].sum()))
        72
    """
    sources = _several(sources, "covariance")

    def make(key: PRNGKey, layer: Layer, kernel: Array) -> Array:
        slices = _slices(sources, layer, kernel)
        share = jnp.full(len(slices), 1 / len(slices), slices.dtype)
        return normal_slices.draw(key, slices, share, kernel.shape, kernel.dtype)

    return fill_layers(make, layers)


def _several(sources: Params | Iterable[Params], who: str) -> list[Params]:
    several = banks.listed(sources)
    if not several:
        raise ValueError(f"{who} needs at least one trained network")
    return several


def _slices(sources: Sequence[Params], layer: Layer, kernel: Array) -> Float[Array, "n d"]:
    """All slices that networks have in a layer, in no less than float32."""
    found = []
    for index, source in enumerate(sources):
        own = source_kernel(source, layer, f"source {index}")
        if own.shape[:-2] != kernel.shape[:-2]:
            raise ValueError(
                f"layer {layer.name} has kernels of {kernels.sides(own.shape[:-2])} in source "
                f"{index}, the network's are {kernels.sides(kernel.shape[:-2])}: choose other "
                "layers, or sources with such kernels"
            )
        found.append(kernels.to_slices(at_least_float32(own)))
    return jnp.concatenate(found)
