"""The default start, which PyTorch's networks have: what the others are compared with."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxinit import checks, kernels, trees
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Network
from jaxinit.models import modules
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey
from jaxinit.trees import Path


def default() -> ParamsInitializer:
    """Draws convolutions and linear layers anew as torchvision's ResNet does.

    Convolutions, shortcuts included: He-normal with fan-out, N(0, 2 / (taps·c_out)). Linear layers:
    uniform ±1/√fan_in. Biases beside either: uniform ±1/√fan_in. Normalisations, which are known by
    a scale and a shift of one shape in a module of their own: scale 1, or 0 where all of it is 0,
    as in residual branches that start so, and shift 0. All other parameters stay as they are, and
    so do kernels that no convolution or linear layer is known by: `changed` lists what does not.
    """

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        checks.key(key)
        known = network_layers.of(params, network)
        convolutions: dict[Path, list[Layer]] = {}
        for layer in known.layers:
            if layer.path is not None:
                convolutions.setdefault(layer.path, []).append(layer)
        fans = _fans(known)
        with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
        paths = [trees.plain_path(path) for path, _ in with_paths]
        numbers, norms = _numbers(paths), _norms(trees.leaves(params))
        fresh = []
        for path, (_, leaf) in zip(paths, with_paths, strict=True):
            leaf_key = key
            for number in numbers[path]:
                leaf_key = jax.random.fold_in(leaf_key, number)
            if path in convolutions:
                fresh.append(_default_kernels(leaf_key, leaf, convolutions[path]))
            else:
                fresh.append(_default_leaf(leaf_key, path, leaf, fans, norms))
        return jax.tree_util.tree_unflatten(structure, fresh)

    return init


def _fans(network: Network) -> dict[tuple[Path, str], int]:
    """The fan-in of the biases and kernels of each module that are drawn uniformly."""
    fans = {}
    for layer in network.layers:
        if layer.path is not None:
            fans[trees.module(layer.path), "bias"] = int(np.prod(layer.shape[:-1]))
    for dense in network.dense:
        module = trees.module(dense.path)
        fans[module, trees.leaf_name(dense.path)] = fans[module, "bias"] = dense.shape[0]
    return fans


def _numbers(paths: Sequence[Path]) -> dict[Path, tuple[int, ...]]:
    """For each leaf the place of each part of its path among its sorted siblings."""
    siblings: dict[Path, set[str | int]] = {}
    for path in paths:
        for depth, part in enumerate(path):
            siblings.setdefault(path[:depth], set()).add(part)
    order = {prefix: sorted(parts, key=_sibling) for prefix, parts in siblings.items()}
    return {
        path: tuple(order[path[:depth]].index(part) for depth, part in enumerate(path))
        for path in paths
    }


def _sibling(part: str | int) -> tuple[bool, str | int]:
    return (isinstance(part, str), part)


def _default_kernels(key: PRNGKey, leaf: Any, own: Sequence[Layer]) -> Array:
    kernels.check_floating(leaf, own[0].path or ())
    if own[0].view == ():
        return kernels.like(modules.he_normal_fan_out(key, own[0].shape, leaf.dtype), leaf)
    tree = {"leaf": leaf}
    new = {}
    for number, layer in enumerate(own):
        layer_key = jax.random.fold_in(key, number) if len(own) > 1 else key
        place = kernels.Place(("leaf",), layer.view)
        new[place] = modules.he_normal_fan_out(layer_key, layer.shape, leaf.dtype)
    return kernels.put(tree, new)["leaf"]


_SCALES, _SHIFTS = ("scale", "weight"), ("bias", "offset", "b")


def _norms(found: Mapping[Path, Any]) -> dict[Path, float]:
    """What the scales and shifts of normalisations start at: pairs of one shape in a module."""
    modules: dict[Path, list[Path]] = {}
    for path in found:
        modules.setdefault(trees.module(path), []).append(path)
    starts = {}
    for own in modules.values():
        names = {trees.leaf_name(path): path for path in own}
        scale = next((names[name] for name in _SCALES if name in names), None)
        shift = next((names[name] for name in _SHIFTS if name in names), None)
        if scale is None or shift is None or np.shape(found[scale]) != np.shape(found[shift]):
            continue
        starts[scale], starts[shift] = 1.0, 0.0
    return starts


def _default_leaf(
    key: PRNGKey,
    path: Path,
    leaf: Any,
    fans: Mapping[tuple[Path, str], int],
    norms: Mapping[Path, float],
) -> Any:
    name = trees.leaf_name(path)
    name = "bias" if name == "b" else name  # as Haiku has it
    fan = fans.get((trees.module(path), name))
    if fan is not None:
        uniform = modules.uniform_fan_in(fan)
        return kernels.like(uniform(key, leaf.shape, leaf.dtype), leaf)
    if path not in norms:
        return leaf
    start = jnp.full(leaf.shape, norms[path], leaf.dtype)
    return kernels.like(jnp.where(jnp.any(leaf != 0), start, jnp.zeros_like(start)), leaf)
